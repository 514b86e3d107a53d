#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "store/memory.h"

enum { BLOCKS = 20000 };

struct block {
    uint8_t *at;
    size_t size;
    uint8_t fill;
};

struct blocks {
    struct memory *memory;
    struct block blocks[BLOCKS];
};

static uint64_t random_state = 42;

static size_t below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state % n);
}

static struct blocks *blocks_new(void)
{
    struct blocks *blocks = calloc(1, sizeof *blocks);
    ck_assert_ptr_nonnull(blocks);
    blocks->memory = memory_new();
    return blocks;
}

static void blocks_free(struct blocks *blocks)
{
    memory_free(blocks->memory);
    free(blocks);
}

static void take(struct blocks *blocks, size_t i, size_t size)
{
    struct block *block = &blocks->blocks[i];
    block->size = size;
    block->fill = (uint8_t)below(256);
    block->at = memory_alloc(blocks->memory, MEMORY_KEY, size);
    memset(block->at, block->fill, size);
    /* The owner, for move. */
    uint32_t owner = (uint32_t)i;
    memcpy(block->at, &owner, sizeof owner);
}

static void check_block(const struct block *block)
{
    size_t i = sizeof(uint32_t);
    while (i < block->size && block->at[i] == block->fill) {
        i++;
    }
    ck_assert_uint_eq(i, block->size);
}

static void give(struct blocks *blocks, size_t i)
{
    struct block *block = &blocks->blocks[i];
    check_block(block);
    memory_release(blocks->memory, MEMORY_KEY, block->at, block->size);
    block->at = NULL;
}

static void move(void *ctx, enum memory_kind kind, void *to, void *from, size_t bytes)
{
    struct blocks *blocks = ctx;
    ck_assert_int_eq(kind, MEMORY_KEY);
    memcpy(to, from, bytes);
    uint32_t owner;
    memcpy(&owner, to, sizeof owner);
    ck_assert_ptr_eq(blocks->blocks[owner].at, from);
    ck_assert_uint_eq(memory_usable(blocks->blocks[owner].size), bytes);
    blocks->blocks[owner].at = to;
}

START_TEST(usable_size_is_at_least_the_size_grows_with_it_and_wastes_little)
{
    for (size_t size = 1; size < 300000; size++) {
        size_t usable = memory_usable(size);
        bool ok = usable >= size && memory_usable(size + 1) >= usable && memory_usable(usable) == usable;
        bool tight = size < 16 || size > MEMORY_SMALL_MAX || usable - size <= 1 + size / 32;
        ck_assert_msg(ok && tight, "size %zu: usable %zu", size, usable);
    }
}
END_TEST

START_TEST(blocks_keep_their_bytes_through_random_use)
{
    struct blocks *blocks = blocks_new();
    for (unsigned n = 0; n < 300000; n++) {
        size_t i = below(BLOCKS);
        if (blocks->blocks[i].at != NULL) {
            give(blocks, i);
        } else {
            take(blocks, i, 4 + (below(50) == 0 ? below(9000) : below(250)));
        }
        memory_tidy(blocks->memory, move, blocks);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks->blocks[i].at != NULL) {
            give(blocks, i);
        }
        memory_tidy(blocks->memory, move, blocks);
    }
    blocks_free(blocks);
}
END_TEST

START_TEST(memory_stays_dense_when_most_blocks_of_a_size_go)
{
    struct blocks *blocks = blocks_new();
    size_t live = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        take(blocks, i, 200);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 10 != 0) {
            give(blocks, i);
            memory_tidy(blocks->memory, move, blocks);
        } else {
            live += 200;
        }
    }
    /* A quarter more, two pages, and what the last releases still owe. */
    ck_assert_uint_le(memory_bytes(blocks->memory), live + live / 4 + (size_t)6 * 64 * 1024);
    for (size_t i = 0; i < BLOCKS; i += 10) {
        check_block(&blocks->blocks[i]);
    }
    blocks_free(blocks);
}
END_TEST

START_TEST(pages_of_one_size_serve_another_when_empty)
{
    struct blocks *blocks = blocks_new();
    size_t most = 0;
    for (size_t size = 100; size < 1000; size += 100) {
        for (size_t i = 0; i < 5000; i++) {
            take(blocks, i, size);
        }
        most = memory_bytes(blocks->memory) > most ? memory_bytes(blocks->memory) : most;
        for (size_t i = 0; i < 5000; i++) {
            give(blocks, i);
        }
    }
    ck_assert_uint_le(most, 5000 * 900 * 5 / 4 + (size_t)12 * 64 * 1024);
    blocks_free(blocks);
}
END_TEST

START_TEST(large_blocks_are_given_back_in_pieces)
{
    enum { LARGE = 10 * 1024 * 1024, PIECE = 1024 * 1024 };
    struct memory *memory = memory_new();
    uint8_t *block = memory_alloc(memory, MEMORY_KEY, LARGE);
    memset(block, 1, LARGE);
    ck_assert_uint_ge(memory_bytes(memory), LARGE);
    memory_release(memory, MEMORY_KEY, block, LARGE);
    ck_assert_uint_eq(memory_bytes(memory), 0);
    unsigned steps = 1;
    while (memory_step(memory, PIECE)) {
        steps++;
    }
    ck_assert_uint_ge(steps, LARGE / PIECE);
    memory_free(memory);
}
END_TEST

START_TEST(discarded_memory_is_reused_or_given_back)
{
    struct blocks *blocks = blocks_new();
    for (unsigned round = 0; round < 5; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            take(blocks, i, i % 100 == 0 ? 5000 : i % 997 == 0 ? 400000 : 300);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            check_block(&blocks->blocks[i]);
        }
        memory_discard(blocks->memory);
        ck_assert_uint_eq(memory_bytes(blocks->memory), 0);
        if (round % 2 == 0) {
            memory_step(blocks->memory, 1000000);
        }
    }
    while (memory_step(blocks->memory, 1 << 20)) {
    }
    blocks_free(blocks);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tests = tcase_create("memory");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, usable_size_is_at_least_the_size_grows_with_it_and_wastes_little);
    tcase_add_test(tests, blocks_keep_their_bytes_through_random_use);
    tcase_add_test(tests, memory_stays_dense_when_most_blocks_of_a_size_go);
    tcase_add_test(tests, pages_of_one_size_serve_another_when_empty);
    tcase_add_test(tests, large_blocks_are_given_back_in_pieces);
    tcase_add_test(tests, discarded_memory_is_reused_or_given_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
