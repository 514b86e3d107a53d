/* Snapshots from node to node: pieces, resumption wherever the receiver is, and what goes wrong on the way. */
#include "tests/unit/snapshot_fixture.h"

#include "consensus/snapshot_format.h"

#define INDEX 9u
#define NAME "snapshot-0000000000000009-0000000000000001"
#define PART NAME ".part"
#define LEN ((2u << 20) + 4321u)

/* A sender and a receiver, each with a disk of its own, and the link between them: one piece at a time. */
struct link {
    struct mem_env *from;
    struct mem_env *to;
    struct snapshot_source *source;
    struct snapshot_receiver *receiver;
    struct snapshot_dir *dir; /* of the receiver, NULL: none */
    uint8_t header[SNAPSHOT_HEADER_BYTES_MAX];
    size_t header_len;
    bool source_open;
    bool receiver_open;
    struct snapshot_position resumed; /* where the receiver began */
    struct snapshot_end end;
    uint8_t piece[SNAPSHOT_PIECE_BYTES_MAX];
    size_t piece_len;
    bool has_piece;
    enum snapshot_status piece_status;
    struct snapshot_position at;
    struct snapshot_position next;
    bool last;
    bool complete; /* the receiver has taken the trailer */
    unsigned pieces;
    unsigned ready;
    unsigned done;
    enum snapshot_status status;
    char error[SNAPSHOT_ERROR_BYTES];
};

static void source_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end,
                             const void *header, size_t header_len)
{
    struct link *link = ctx;
    ck_assert_uint_eq(meta->index, INDEX);
    memcpy(link->header, header, header_len);
    link->header_len = header_len;
    link->end = *end;
    link->source_open = true;
}

static void source_piece_cb(void *ctx, enum snapshot_status status, const struct snapshot_position *at,
                            const void *data, size_t len, const struct snapshot_position *next, bool last)
{
    struct link *link = ctx;
    ck_assert(!link->has_piece);
    ck_assert_uint_le(len, sizeof link->piece);
    link->has_piece = true;
    link->piece_status = status;
    link->at = *at;
    link->next = *next;
    link->last = last;
    link->piece_len = len;
    if (len > 0) {
        memcpy(link->piece, data, len);
    }
}

static void source_failed_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct link *link = ctx;
    link->piece_status = status;
    snprintf(link->error, sizeof link->error, "%s", error);
}

static void receiver_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_position *next)
{
    struct link *link = ctx;
    ck_assert_uint_eq(meta->index, INDEX);
    link->receiver_open = true;
    link->resumed = *next;
}

static void receiver_ready_cb(void *ctx)
{
    ((struct link *)ctx)->ready++;
}

static void receiver_done_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct link *link = ctx;
    link->done++;
    link->status = status;
    ck_assert_int_eq(status == SNAPSHOT_OK, end != NULL);
    snprintf(link->error, sizeof link->error, "%s", error == NULL ? "" : error);
}

static void source_begin(struct link *link)
{
    struct snapshot_source_events events = {
        .opened = source_opened_cb, .piece = source_piece_cb, .failed = source_failed_cb, .ctx = link};
    ck_assert_int_eq(snapshot_source_open(mem_env_env(link->from), NULL, NAME, &events, &link->source), SNAPSHOT_OK);
    snap_run(link->from);
}

static enum snapshot_status receiver_open(struct link *link, size_t header_len,
                                          const struct snapshot_receiver_events *events)
{
    const struct snapshot_receiver_config config = {
        .env = mem_env_env(link->to), .dir = link->dir, .header = link->header, .header_len = header_len};
    return snapshot_receiver_open(&config, events, &link->receiver);
}

static enum snapshot_status receiver_try(struct link *link)
{
    struct snapshot_receiver_events events = {
        .opened = receiver_opened_cb, .ready = receiver_ready_cb, .done = receiver_done_cb, .ctx = link};
    link->receiver_open = false;
    link->complete = false;
    link->done = 0;
    return receiver_open(link, link->header_len, &events);
}

static void receiver_begin(struct link *link)
{
    ck_assert_int_eq(receiver_try(link), SNAPSHOT_OK);
}

static void link_begin(struct link *link, size_t len)
{
    memset(link, 0, sizeof *link);
    link->from = mem_env_new(1);
    link->to = mem_env_new(2);
    snap_write_all(link->from, INDEX, 1, 2, len);
    source_begin(link);
    ck_assert(link->source_open);
    receiver_begin(link);
}

static void fetch(struct link *link, struct snapshot_position at)
{
    link->has_piece = false;
    ck_assert_int_eq(snapshot_source_read(link->source, &at), SNAPSHOT_OK);
    snap_run(link->from);
    ck_assert(link->has_piece);
}

/* Bring one piece over; false when the receiver has to be waited for, or is done. */
static bool carry(struct link *link)
{
    struct snapshot_position at = snapshot_receiver_next(link->receiver);
    if (!link->receiver_open || link->done > 0 || link->complete) {
        return false;
    }
    fetch(link, at);
    ck_assert_int_eq(link->piece_status, SNAPSHOT_OK);
    enum snapshot_status status = snapshot_receiver_put(link->receiver, &at, link->piece, link->piece_len);
    ck_assert(status == SNAPSHOT_OK || status == SNAPSHOT_BUSY);
    if (status == SNAPSHOT_OK) {
        link->pieces++;
        link->complete = link->last;
        struct snapshot_position now = snapshot_receiver_next(link->receiver);
        ck_assert_int_eq(memcmp(&now, &link->next, sizeof now), 0);
    }
    return status == SNAPSHOT_OK && !link->last;
}

static void carry_all(struct link *link)
{
    while (link->done == 0) {
        while (carry(link)) {
        }
        snap_run(link->to);
    }
}

static void check_received(struct link *link)
{
    size_t want;
    size_t got;
    const uint8_t *a = mem_env_file(link->from, NAME, &want);
    const uint8_t *b = mem_env_file(link->to, NAME, &got);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq(want, got);
    ck_assert_int_eq(memcmp(a, b, want), 0);
    ck_assert_ptr_null(mem_env_file(link->to, PART, NULL));
}

static void link_end(struct link *link)
{
    snapshot_source_close(link->source);
    snapshot_receiver_close(link->receiver, false);
    snap_run(link->from);
    snap_run(link->to);
    ck_assert_uint_eq(mem_env_open_files(link->from), 0);
    ck_assert_uint_eq(mem_env_open_files(link->to), 0);
    mem_env_free(link->from);
    mem_env_free(link->to);
}

START_TEST(a_snapshot_arrives_bit_by_bit_the_same)
{
    static const size_t sizes[] = {0, 1, 65536, 65537, 300000, LEN};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct link link;
        link_begin(&link, sizes[i]);
        carry_all(&link);
        ck_assert_msg(link.status == SNAPSHOT_OK, "%s", link.error);
        ck_assert_uint_eq(link.done, 1);
        ck_assert_uint_eq(link.pieces, link.end.blocks + 1);
        check_received(&link);
        mem_env_crash(link.to, NULL, NULL); /* nothing of it was not durable */
        mem_env_restart(link.to);
        check_received(&link);
        ck_assert_int_eq(snap_verify(link.to, NAME).status, SNAPSHOT_OK);
        link_end(&link);
    }
}
END_TEST

START_TEST(a_receiver_takes_no_more_than_its_buffers_hold)
{
    struct link link;
    link_begin(&link, 6u << 20);
    snap_run(link.to);
    ck_assert_uint_eq(snapshot_receiver_room(link.receiver, 1u << 20), 1u << 20);
    size_t room = 1;
    while (room > 0 && carry(&link)) { /* the receiver's disk stands still */
        const size_t now = snapshot_receiver_room(link.receiver, 8u << 20);
        ck_assert_uint_lt(now, 4u << 20);
        room = now;
    }
    ck_assert_uint_eq(room, 0); /* up to there all was taken */
    while (carry(&link)) {
    }
    ck_assert_uint_gt(link.pieces, 40);
    ck_assert_uint_lt(link.pieces, 64);
    ck_assert_uint_eq(link.ready, 0);
    struct snapshot_position at = snapshot_receiver_next(link.receiver);
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, link.piece_len), SNAPSHOT_BUSY);
    snap_run(link.to);
    ck_assert_uint_eq(link.ready, 1);
    ck_assert_uint_gt(snapshot_receiver_room(link.receiver, 8u << 20), 1u << 20);
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    link_end(&link);
}
END_TEST

START_TEST(pieces_out_of_place_and_damaged_ones_are_not_taken)
{
    struct link link;
    link_begin(&link, LEN);
    snap_run(link.to);
    for (int i = 0; i < 5; i++) {
        ck_assert(carry(&link));
    }
    struct snapshot_position at = snapshot_receiver_next(link.receiver);
    struct snapshot_position before = link.at;
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &before, link.piece, link.piece_len), SNAPSHOT_NOT_NEXT);
    fetch(&link, at);
    /* The piece after the wanted one, passed off as it. */
    struct snapshot_position second = link.next;
    fetch(&link, second);
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, link.piece_len), SNAPSHOT_DAMAGED);
    fetch(&link, at);
    for (size_t i = 0; i < link.piece_len; i += i < 60 ? 1 : 977) {
        link.piece[i] ^= 0x10;
        ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, link.piece_len), SNAPSHOT_DAMAGED);
        link.piece[i] ^= 0x10;
    }
    for (size_t n = 0; n < 100; n++) {
        ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, n), SNAPSHOT_DAMAGED);
    }
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, link.piece_len - 8), SNAPSHOT_DAMAGED);
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, link.piece, link.piece_len), SNAPSHOT_OK);
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    link_end(&link);
}
END_TEST

START_TEST(a_trailer_that_comes_too_early_is_not_taken)
{
    struct link link;
    link_begin(&link, LEN);
    snap_run(link.to);
    ck_assert(carry(&link));
    struct snapshot_position at = snapshot_receiver_next(link.receiver);
    size_t size;
    const uint8_t *file = mem_env_file(link.from, NAME, &size);
    ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, file + size - ENV_BLOCK, ENV_BLOCK), SNAPSHOT_DAMAGED);
    link_end(&link);
}
END_TEST

START_TEST(a_source_refuses_places_that_are_none_and_names_damaged_blocks)
{
    struct link link;
    link_begin(&link, LEN);
    struct snapshot_position start = snapshot_receiver_next(link.receiver);
    struct snapshot_position at = start;
    fetch(&link, at);
    struct snapshot_position second = link.next;
    for (unsigned i = 0; i < 4; i++) {
        at = second;
        *(i == 0 ? &at.number : i == 1 ? &at.offset : i == 2 ? &at.payload : &at.check) += 8;
        fetch(&link, at);
        ck_assert_int_eq(link.piece_status, SNAPSHOT_DAMAGED);
        ck_assert_ptr_nonnull(strstr(snapshot_source_error(link.source), NAME));
    }
    at = (struct snapshot_position){.number = link.end.blocks + 1, .offset = 4096};
    ck_assert_int_eq(snapshot_source_read(link.source, &at), SNAPSHOT_DAMAGED);
    at = (struct snapshot_position){.number = 1, .offset = UINT64_MAX};
    ck_assert_int_eq(snapshot_source_read(link.source, &at), SNAPSHOT_DAMAGED);
    at = (struct snapshot_position){.number = link.end.blocks, .offset = 4096};
    fetch(&link, at);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_DAMAGED);
    /* The last bytes of the file, as a block. */
    at = (struct snapshot_position){.number = 1, .offset = link.end.file_bytes - 8};
    fetch(&link, at);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_DAMAGED);
    mem_env_file(link.from, NAME, NULL)[second.offset + 1000] ^= 1;
    fetch(&link, second);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(snapshot_source_error(link.source), "block 1 "));
    mem_env_fail_reads(link.from, true);
    fetch(&link, start);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_IO);
    mem_env_fail_reads(link.from, false);
    fetch(&link, start);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_OK);
    link_end(&link);
}
END_TEST

START_TEST(a_source_of_a_damaged_file_fails_to_open)
{
    struct link link = {.from = mem_env_new(1)};
    snap_write_all(link.from, INDEX, 1, 2, 1000);
    mem_env_file(link.from, NAME, NULL)[60] ^= 1;
    source_begin(&link);
    ck_assert(!link.source_open);
    ck_assert_int_eq(link.piece_status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(link.error, NAME));
    snapshot_source_close(link.source);
    snap_run(link.from);
    ck_assert_uint_eq(mem_env_open_files(link.from), 0);
    mem_env_free(link.from);
}
END_TEST

START_TEST(a_header_that_is_none_is_refused_at_once)
{
    struct link link;
    link_begin(&link, 1000);
    struct snapshot_receiver_events events = {.ctx = NULL};
    struct snapshot_receiver *receiver = link.receiver;
    for (size_t i = 0; i < link.header_len; i += i < 300 ? 1 : 131) {
        link.header[i] ^= 2;
        ck_assert_int_eq(receiver_open(&link, link.header_len, &events), SNAPSHOT_DAMAGED);
        link.header[i] ^= 2;
    }
    for (size_t n = 0; n < link.header_len; n += 100) {
        ck_assert_int_eq(receiver_open(&link, n, &events), SNAPSHOT_DAMAGED);
    }
    ck_assert_ptr_eq(link.receiver, receiver);
    link_end(&link);
}
END_TEST

START_TEST(an_interrupted_transfer_is_continued_where_it_was)
{
    struct link link;
    link_begin(&link, LEN);
    uint64_t before = 0;
    for (int i = 0; i < 4; i++) {
        snap_run(link.to);
        for (int n = 0; n < 9; n++) {
            if (!carry(&link)) {
                break;
            }
            snap_run(link.to);
        }
        snapshot_receiver_close(link.receiver, true);
        snap_run(link.to);
        receiver_begin(&link);
        snap_run(link.to);
        ck_assert(link.receiver_open);
        ck_assert_uint_ge(link.resumed.number, before);
        before = link.resumed.number;
    }
    ck_assert_uint_gt(before, 16); /* what was in a buffer is lost, no more */
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    link_end(&link);
}
END_TEST

START_TEST(a_transfer_is_continued_from_another_node_with_the_same_file)
{
    struct link link;
    link_begin(&link, LEN);
    snap_run(link.to);
    for (int n = 0; n < 17; n++) {
        ck_assert(carry(&link));
        snap_run(link.to);
    }
    struct mem_env *other = mem_env_new(77);
    mem_env_copy_files(other, link.from);
    snapshot_source_close(link.source);
    snap_run(link.from);
    mem_env_free(link.from);
    link.from = other;
    source_begin(&link);
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    link_end(&link);
}
END_TEST

/* Until one request of this kind for this file is in flight, complete the others. */
static void run_until(struct mem_env *mem, enum env_disk_op op)
{
    for (unsigned n = 0; n < 10000; n++) {
        mem_env_advance(mem, 0);
        ck_assert_uint_gt(mem_env_pending(mem), 0);
        for (unsigned i = 0; i < mem_env_pending(mem); i++) {
            if (mem_env_pending_req(mem, i)->op == op) {
                return;
            }
        }
        mem_env_complete(mem, 0, ENV_OK);
    }
    ck_abort_msg("it never comes to that");
}

/* The disk refuses to remove a file that is open (mem_env.h). */
START_TEST(a_receiver_closed_while_it_verifies_removes_the_file_after_the_read)
{
    struct link link;
    link_begin(&link, LEN);
    ck_assert_int_eq(snapshot_dir_open(mem_env_env(link.to), &link.dir), SNAPSHOT_OK);
    snap_run(link.to);
    snapshot_receiver_close(link.receiver, false);
    snap_run(link.to);
    receiver_begin(&link);
    while (!link.complete) {
        snap_run(link.to);
        (void)carry(&link);
    }
    run_until(link.to, ENV_DISK_SYNC);
    ck_assert(mem_env_complete_op(link.to, ENV_DISK_SYNC, ENV_OK));
    run_until(link.to, ENV_DISK_READ);
    snapshot_receiver_close(link.receiver, false);
    ck_assert_uint_eq(mem_env_pending(link.to), 1); /* the read alone */
    ck_assert_ptr_nonnull(mem_env_file(link.to, PART, NULL));
    ck_assert_int_eq(receiver_try(&link), SNAPSHOT_BUSY); /* nobody begins the same one meanwhile */
    snap_run(link.to);
    ck_assert_ptr_null(mem_env_file(link.to, PART, NULL));
    receiver_begin(&link);
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    snapshot_dir_close(link.dir);
    link_end(&link);
}
END_TEST

START_TEST(a_receiver_closed_while_it_renames_leaves_a_file_that_is_listed)
{
    struct link link;
    link_begin(&link, LEN);
    ck_assert_int_eq(snapshot_dir_open(mem_env_env(link.to), &link.dir), SNAPSHOT_OK);
    snapshot_receiver_close(link.receiver, false);
    snap_run(link.to);
    receiver_begin(&link);
    while (!link.complete) {
        snap_run(link.to);
        (void)carry(&link);
    }
    run_until(link.to, ENV_DISK_RENAME);
    snapshot_receiver_close(link.receiver, false);
    snap_run(link.to);
    ck_assert_ptr_nonnull(snapshot_dir_newest(link.dir));
    ck_assert_uint_eq(snapshot_dir_newest(link.dir)->index, INDEX);
    check_received(&link);
    snapshot_dir_close(link.dir);
    link.receiver = NULL;
    link_end(&link);
}
END_TEST

START_TEST(a_file_that_is_sent_is_not_pruned_before_its_last_read_is_back)
{
    struct link link;
    struct snapshot_dir *dir;
    struct snapshot_source_events events = {
        .opened = source_opened_cb, .piece = source_piece_cb, .failed = source_failed_cb, .ctx = &link};
    const struct snapshot_position none = {0};
    link_begin(&link, LEN);
    snapshot_source_close(link.source);
    snap_run(link.from);
    snap_write_all(link.from, INDEX + 1, 1, 2, 1000);
    snap_write_all(link.from, INDEX + 2, 1, 2, 1000);
    ck_assert_int_eq(snapshot_dir_open(mem_env_env(link.from), &dir), SNAPSHOT_OK);
    ck_assert_int_eq(snapshot_source_open(mem_env_env(link.from), dir, NAME, &events, &link.source), SNAPSHOT_OK);
    snap_run(link.from);
    ck_assert_int_eq(snapshot_source_read(link.source, &none), SNAPSHOT_OK);
    snapshot_source_close(link.source);
    link.source = NULL;
    snapshot_dir_prune(dir);
    ck_assert_uint_eq(mem_env_pending(link.from), 1); /* the read alone */
    snap_run(link.from);
    ck_assert(!link.has_piece);
    ck_assert_ptr_null(mem_env_file(link.from, NAME, NULL));
    ck_assert_uint_eq(snapshot_source_open(mem_env_env(link.from), dir, NAME, &events, &link.source),
                      SNAPSHOT_NOT_FOUND);
    link.source = NULL;
    snapshot_dir_close(dir);
    link_end(&link);
}
END_TEST

START_TEST(the_beginning_of_another_file_is_replaced)
{
    struct link link;
    link_begin(&link, LEN);
    snap_run(link.to);
    for (int n = 0; n < 17; n++) {
        ck_assert(carry(&link));
        snap_run(link.to);
    }
    snapshot_receiver_close(link.receiver, true);
    snap_run(link.to);
    ck_assert_ptr_nonnull(mem_env_file(link.to, PART, NULL));
    /* Another node took a snapshot at the same index: the same content, but another file. */
    snapshot_source_close(link.source);
    snap_run(link.from);
    mem_env_free(link.from);
    link.from = mem_env_new(50);
    snap_write_all(link.from, INDEX, 1, 2, LEN);
    source_begin(&link);
    receiver_begin(&link);
    snap_run(link.to);
    ck_assert_uint_eq(link.resumed.number, 0);
    carry_all(&link);
    ck_assert_int_eq(link.status, SNAPSHOT_OK);
    check_received(&link);
    link_end(&link);
}
END_TEST

START_TEST(a_crash_at_every_step_is_survived_and_the_transfer_continued)
{
    bool ended = false;
    uint64_t most = 0;
    for (unsigned steps = 0; !ended; steps++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct link link;
            link_begin(&link, LEN);
            unsigned n = 0;
            while (link.done == 0 && n < steps) {
                if (!carry(&link)) {
                    if (mem_env_pending(link.to) > 0) {
                        mem_env_complete(link.to, 0, ENV_OK);
                    } else {
                        mem_env_advance(link.to, 1);
                    }
                    n++;
                }
            }
            ended = link.done > 0;
            mem_env_crash(link.to, seed == 0 ? NULL : snap_keep_some, &seed);
            snapshot_receiver_close(link.receiver, true);
            mem_env_restart(link.to);
            if (mem_env_file(link.to, NAME, NULL) != NULL) {
                check_received(&link); /* whole or not at all */
            }
            mem_env_file_remove(link.to, NAME);
            receiver_begin(&link);
            snap_run(link.to);
            most = link.resumed.number > most ? link.resumed.number : most;
            carry_all(&link);
            ck_assert_msg(link.status == SNAPSHOT_OK, "%s", link.error);
            check_received(&link);
            link_end(&link);
        }
    }
    ck_assert_uint_gt(most, 5);
}
END_TEST

START_TEST(a_failing_request_at_every_step_ends_the_receiver_and_leaves_nothing)
{
    static const enum env_status statuses[] = {ENV_IO, ENV_NO_SPACE};
    bool ended = false;
    for (unsigned steps = 0; !ended; steps++) {
        for (unsigned kind = 0; kind < 2; kind++) {
            struct link link;
            link_begin(&link, LEN);
            unsigned n = 0;
            while (link.done == 0 && n < steps) {
                if (!carry(&link)) {
                    if (mem_env_pending(link.to) > 0) {
                        mem_env_complete(link.to, 0, ENV_OK);
                    } else {
                        mem_env_advance(link.to, 1);
                    }
                    n++;
                }
            }
            ended = link.done > 0;
            if (!ended) {
                if (mem_env_pending(link.to) == 0) {
                    link_end(&link); /* between requests */
                    continue;
                }
                mem_env_complete(link.to, 0, statuses[kind]);
                snap_run(link.to);
                ck_assert_uint_eq(link.done, 1);
                ck_assert_int_eq(link.status, kind == 0 ? SNAPSHOT_IO : SNAPSHOT_NO_SPACE);
                ck_assert_ptr_nonnull(strstr(link.error, PART));
                ck_assert_uint_eq(mem_env_file_count(link.to), 0);
                struct snapshot_position at = snapshot_receiver_next(link.receiver);
                ck_assert_int_eq(snapshot_receiver_put(link.receiver, &at, "x", 1), SNAPSHOT_NOT_NEXT);
            }
            link_end(&link);
        }
    }
}
END_TEST

START_TEST(closing_a_receiver_at_every_step_keeps_or_removes_what_it_has)
{
    bool ended = false;
    for (unsigned steps = 0; !ended; steps++) {
        for (int keep = 0; keep < 2; keep++) {
            struct link link;
            link_begin(&link, LEN);
            unsigned n = 0;
            while (link.done == 0 && n < steps) {
                if (!carry(&link)) {
                    if (mem_env_pending(link.to) > 0) {
                        mem_env_complete(link.to, 0, ENV_OK);
                    } else {
                        mem_env_advance(link.to, 1);
                    }
                    n++;
                }
            }
            ended = link.done > 0;
            bool renaming =
                !ended && mem_env_pending(link.to) > 0 && mem_env_pending_req(link.to, 0)->op == ENV_DISK_RENAME;
            snapshot_receiver_close(link.receiver, keep != 0);
            link.receiver = NULL;
            snap_run(link.to);
            ck_assert_uint_eq(link.done, ended ? 1 : 0);
            if (keep == 0 && !ended && !renaming) {
                ck_assert_uint_eq(mem_env_file_count(link.to), 0);
            }
            link_end(&link);
        }
    }
}
END_TEST

START_TEST(what_rots_on_the_way_to_the_disk_is_found_when_it_is_read_back)
{
    struct link link;
    link_begin(&link, LEN);
    snap_run(link.to);
    for (;;) {
        bool more = carry(&link);
        if (link.last) {
            break;
        }
        if (!more) {
            snap_run(link.to);
        }
    }
    while (mem_env_pending(link.to) > 0 && mem_env_pending_req(link.to, 0)->op != ENV_DISK_SYNC) {
        mem_env_complete(link.to, 0, ENV_OK);
    }
    mem_env_file(link.to, PART, NULL)[1234567] ^= 8;
    snap_run(link.to);
    ck_assert_uint_eq(link.done, 1);
    ck_assert_int_eq(link.status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(link.error, "read back"));
    ck_assert_ptr_nonnull(strstr(link.error, "block "));
    ck_assert_uint_eq(mem_env_file_count(link.to), 0);
    link_end(&link);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("peer");
    tcase_set_timeout(cases, 100);
    tcase_add_test(cases, a_snapshot_arrives_bit_by_bit_the_same);
    tcase_add_test(cases, a_receiver_takes_no_more_than_its_buffers_hold);
    tcase_add_test(cases, pieces_out_of_place_and_damaged_ones_are_not_taken);
    tcase_add_test(cases, a_trailer_that_comes_too_early_is_not_taken);
    tcase_add_test(cases, a_source_refuses_places_that_are_none_and_names_damaged_blocks);
    tcase_add_test(cases, a_source_of_a_damaged_file_fails_to_open);
    tcase_add_test(cases, a_header_that_is_none_is_refused_at_once);
    tcase_add_test(cases, an_interrupted_transfer_is_continued_where_it_was);
    tcase_add_test(cases, a_transfer_is_continued_from_another_node_with_the_same_file);
    tcase_add_test(cases, the_beginning_of_another_file_is_replaced);
    tcase_add_test(cases, a_receiver_closed_while_it_verifies_removes_the_file_after_the_read);
    tcase_add_test(cases, a_receiver_closed_while_it_renames_leaves_a_file_that_is_listed);
    tcase_add_test(cases, a_file_that_is_sent_is_not_pruned_before_its_last_read_is_back);
    tcase_add_test(cases, a_crash_at_every_step_is_survived_and_the_transfer_continued);
    tcase_add_test(cases, a_failing_request_at_every_step_ends_the_receiver_and_leaves_nothing);
    tcase_add_test(cases, closing_a_receiver_at_every_step_keeps_or_removes_what_it_has);
    tcase_add_test(cases, what_rots_on_the_way_to_the_disk_is_found_when_it_is_read_back);
    Suite *suite = suite_create("snapshot_peer");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
