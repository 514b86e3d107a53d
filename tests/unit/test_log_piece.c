/* Pieces of the log as bytes: what goes in comes out, and nothing that is damaged or cut does. */
#include "consensus/log_piece.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/golden.h"

#define ENTRIES 5u

static struct wal_entry entries[ENTRIES];
static uint8_t payload[64];

static void setup(void)
{
    for (unsigned i = 0; i < sizeof payload; i++) {
        payload[i] = (uint8_t)(i * 7 + 1);
    }
    for (unsigned i = 0; i < ENTRIES; i++) {
        entries[i] = (struct wal_entry){.index = 90 + i,
                                        .term = 3 + i / 3,
                                        .type = i == 0   ? WAL_CHANGE
                                                : i == 3 ? WAL_BARRIER
                                                         : WAL_COMMAND,
                                        .data = payload,
                                        .len = i * 13};
    }
}

/* Of exactly its size, so that sanitizers see every step too far. */
static uint8_t *encoded(unsigned n, size_t *len)
{
    *len = log_piece_bytes(entries, n);
    uint8_t *bytes = malloc(*len);
    ck_assert_ptr_nonnull(bytes);
    log_piece_encode(bytes, entries, n, 1234);
    return bytes;
}

static void piece_check(const uint8_t *bytes, size_t len, unsigned n)
{
    struct log_piece piece;
    struct wal_entry entry;
    ck_assert(log_piece_open(&piece, bytes, len));
    ck_assert_uint_eq(piece.left, n);
    ck_assert_uint_eq(piece.last, 1234);
    for (unsigned i = 0; i < n; i++) {
        ck_assert(log_piece_next(&piece, &entry));
        ck_assert_uint_eq(entry.index, entries[i].index);
        ck_assert_uint_eq(entry.term, entries[i].term);
        ck_assert_int_eq(entry.type, entries[i].type);
        ck_assert_uint_eq(entry.len, entries[i].len);
        ck_assert(entry.len == 0 || memcmp(entry.data, payload, entry.len) == 0);
    }
    ck_assert(!log_piece_next(&piece, &entry));
}

START_TEST(entries_come_back)
{
    for (unsigned n = 0; n <= ENTRIES; n++) {
        size_t len;
        uint8_t *bytes = encoded(n, &len);
        piece_check(bytes, len, n);
        free(bytes);
    }
}
END_TEST

START_TEST(every_flipped_bit_is_noticed)
{
    size_t len;
    uint8_t *bytes = encoded(ENTRIES, &len);
    struct log_piece piece;
    for (size_t i = 0; i < len * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        ck_assert(!log_piece_open(&piece, bytes, len));
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    ck_assert(log_piece_open(&piece, bytes, len));
    free(bytes);
}
END_TEST

START_TEST(every_cut_is_noticed)
{
    size_t len;
    uint8_t *bytes = encoded(ENTRIES, &len);
    struct log_piece piece;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut > 0 ? cut : 1);
        ck_assert_ptr_nonnull(part);
        memcpy(part, bytes, cut);
        ck_assert(!log_piece_open(&piece, part, cut));
        free(part);
    }
    free(bytes);
}
END_TEST

START_TEST(a_piece_has_the_bytes_of_the_golden_file)
{
    uint8_t golden[1024];
    size_t len;
    const size_t n = golden_read("log-piece-v1.hex", golden, sizeof golden);
    uint8_t *bytes = encoded(ENTRIES, &len);
    ck_assert_uint_eq(len, n);
    ck_assert_mem_eq(bytes, golden, n);
    free(bytes);
}
END_TEST

START_TEST(the_golden_file_is_still_read)
{
    uint8_t golden[1024];
    const size_t n = golden_read("log-piece-v1.hex", golden, sizeof golden);
    piece_check(golden, n, ENTRIES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_piece");
    TCase *tc = tcase_create("piece");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, entries_come_back);
    tcase_add_test(tc, every_flipped_bit_is_noticed);
    tcase_add_test(tc, every_cut_is_noticed);
    tcase_add_test(tc, a_piece_has_the_bytes_of_the_golden_file);
    tcase_add_test(tc, the_golden_file_is_still_read);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
