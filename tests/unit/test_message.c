/* The peer message codec: every type there and back, every bound, every truncation; the bytes are pinned by a golden
 * file. Offsets below are those of docs/FORMATS.md, section Peer messages. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/golden.h"
#include "tests/unit/message_samples.h"

static uint8_t frame[SAMPLE_FRAME_MAX];
static struct message decoded;
static struct message_entry entries[MESSAGE_ENTRIES_MAX];

/* Decodes exactly `len` bytes: a copy without a byte more, so that a sanitizer sees what is read behind the end. */
static bool decodes(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, len);
    memset(&decoded, 0, sizeof decoded);
    bool ok = message_decode(copy, len, &decoded, entries);
    free(copy);
    return ok;
}

static size_t sample_frame(enum message_type type)
{
    struct message m = sample_of(type);
    return frame_of(&m, sample_entries, frame);
}

START_TEST(every_type_survives_the_way_there_and_back)
{
    static uint8_t again[SAMPLE_FRAME_MAX];
    enum message_type type = (enum message_type)_i;
    size_t len = sample_frame(type);
    ck_assert(message_decode(frame, len, &decoded, entries));
    ck_assert_int_eq(decoded.type, type);
    ck_assert_uint_eq(decoded.term, 7);
    ck_assert_uint_eq(frame_of(&decoded, entries, again), len);
    ck_assert_mem_eq(again, frame, len);
}
END_TEST

START_TEST(fields_arrive_where_they_belong)
{
    size_t len = sample_frame(MESSAGE_APPEND);
    ck_assert(message_decode(frame, len, &decoded, entries));
    ck_assert_uint_eq(decoded.append.needs, 0x17);
    ck_assert_uint_eq(decoded.append.grant_us, 0x16);
    for (unsigned i = 0; i < SAMPLE_ENTRIES; i++) {
        ck_assert_uint_eq(entries[i].term, sample_entries[i].term);
        ck_assert_uint_eq(entries[i].type, sample_entries[i].type);
        ck_assert_uint_eq(entries[i].len, sample_entries[i].len);
        ck_assert_int_eq(memcmp(entries[i].data, sample_entries[i].data, entries[i].len), 0);
    }
    len = sample_frame(MESSAGE_SNAPSHOT_ASK);
    ck_assert(message_decode(frame, len, &decoded, entries));
    ck_assert_uint_eq(decoded.snapshot_ask.file.index, 0x41);
    ck_assert_uint_eq(decoded.snapshot_ask.at.check, 0x34);
    ck_assert_uint_eq(decoded.snapshot_ask.window, 0x43);
    ck_assert_uint_eq(decoded.snapshot_ask.round, 0x44);
    len = sample_frame(MESSAGE_SNAPSHOT_PIECE);
    ck_assert(message_decode(frame, len, &decoded, entries));
    ck_assert_uint_eq(decoded.snapshot_piece.at.offset, 0x32);
    ck_assert_mem_eq(decoded.snapshot_piece.data, "block", 5);
}
END_TEST

START_TEST(every_flag_is_carried_alone)
{
    for (int bits = 0; bits < 4; bits++) {
        bool one = (bits & 1) != 0, two = (bits & 2) != 0;
        struct message m = {.type = MESSAGE_VOTE, .term = 7, .vote = {1, 2, 3, one, two}};
        ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
        ck_assert(decoded.vote.disrupt_leader == one);
        ck_assert(decoded.vote.pre_vote == two);
        m = (struct message){.type = MESSAGE_VOTE_RESULT, .term = 7, .vote_result = {one, two, 0, 0}};
        ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
        ck_assert(decoded.vote_result.granted == one);
        ck_assert(decoded.vote_result.pre_vote == two);
        m = (struct message){.type = MESSAGE_ECHO, .term = 7, .echo = {.stamp = 1, .accepted = one}};
        ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
        ck_assert(decoded.echo.accepted == one);
        ck_assert(!decoded.echo.snapshot_waits);
        ck_assert(!decoded.echo.snapshot_writes);
        m.echo = (struct message_echo){.stamp = 1, .snapshot_waits = one, .snapshot_writes = two};
        ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
        ck_assert(!decoded.echo.accepted);
        ck_assert(decoded.echo.snapshot_waits == one);
        ck_assert(decoded.echo.snapshot_writes == two);
        m = (struct message){.type = MESSAGE_APPEND, .term = 7, .append = {.turn = (enum snapshot_turn)bits}};
        ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
        ck_assert_int_eq((int)decoded.append.turn, bits);
    }
}
END_TEST

/* Flags that are not known are passed over: that is how later versions add some. The frames of a version that knew no
 * turns (the golden ones) say nothing of them. */
START_TEST(a_flag_that_is_not_known_changes_nothing)
{
    const size_t len = sample_frame(MESSAGE_APPEND);
    ck_assert_uint_eq(frame[3], 0);
    frame[3] = 0x80;
    ck_assert(decodes(frame, len));
    ck_assert_int_eq(decoded.append.turn, SNAPSHOT_TURN_UNKNOWN);
    ck_assert_uint_eq(decoded.append.n_entries, SAMPLE_ENTRIES);
}
END_TEST

START_TEST(a_frame_cut_anywhere_is_refused)
{
    size_t len = sample_frame((enum message_type)_i);
    for (size_t n = 0; n < len; n++)
        ck_assert_msg(!decodes(frame, n), "%zu of %zu bytes", n, len);
    ck_assert(decodes(frame, len));
}
END_TEST

START_TEST(a_frame_with_bytes_behind_it_is_refused)
{
    size_t len = sample_frame((enum message_type)_i);
    memset(frame + len, 0, 8);
    ck_assert(!decodes(frame, len + 1));
    ck_assert(!decodes(frame, len + 8));
}
END_TEST

/* A field of a sample overwritten. */
struct change {
    enum message_type type;
    size_t offset, bytes;
    uint64_t value;
    bool accepted;
};

#define HALF (UINT64_MAX / 2)
static const struct change changes[] = {
    /* the head of all */
    {MESSAGE_PING, 0, 1, 0, false}, /* channel */
    {MESSAGE_PING, 0, 1, 2, false},
    {MESSAGE_PING, 1, 1, 0, false}, /* version */
    {MESSAGE_PING, 1, 1, 2, false},
    {MESSAGE_PING, 2, 1, 0, false}, /* type */
    {MESSAGE_PING, 2, 1, SAMPLES + 1, false},
    {MESSAGE_PING, 2, 1, 255, false},
    {MESSAGE_PING, 4, 4, 1, false}, /* count where there is nothing to count */
    {MESSAGE_SNAPSHOT_ASK, 4, 4, 1, false},
    {MESSAGE_PING, 8, 8, 0, false}, /* term */
    {MESSAGE_PING, 8, 8, 1, true},
    {MESSAGE_PING, 8, 8, HALF - 1, true},
    {MESSAGE_PING, 8, 8, HALF, false},
    /* APPEND: entries 3, 5, 7 after term 2 */
    {MESSAGE_APPEND, 8, 8, 6, false}, /* a term below its last entry's */
    {MESSAGE_APPEND, 8, 8, 8, true},
    {MESSAGE_APPEND, 16, 8, 0, false}, /* previous index and term: both or none */
    {MESSAGE_APPEND, 16, 8, UINT64_MAX - MESSAGE_ENTRIES_MAX, true},
    {MESSAGE_APPEND, 16, 8, UINT64_MAX - MESSAGE_ENTRIES_MAX + 1, false},
    {MESSAGE_APPEND, 24, 8, 0, false},
    {MESSAGE_APPEND, 24, 8, 3, true},
    {MESSAGE_APPEND, 24, 8, 4, false}, /* above the first entry's term */
    {MESSAGE_APPEND, 24, 8, 8, false},
    {MESSAGE_APPEND, 80, 8, 0, false}, /* term of entry 0 */
    {MESSAGE_APPEND, 80, 8, 1, false},
    {MESSAGE_APPEND, 80, 8, 2, true},
    {MESSAGE_APPEND, 80, 8, 6, false},
    {MESSAGE_APPEND, 88, 4, 10, true}, /* its length, within the padding and beyond */
    {MESSAGE_APPEND, 88, 4, 17, false},
    {MESSAGE_APPEND, 88, 4, UINT32_MAX, false},
    {MESSAGE_APPEND, 92, 1, 0, false}, /* its type */
    {MESSAGE_APPEND, 92, 1, 4, false},
    {MESSAGE_APPEND, 4, 4, 2, false}, /* fewer and more entries than there are */
    {MESSAGE_APPEND, 4, 4, 4, false},
    {MESSAGE_APPEND, 4, 4, MESSAGE_ENTRIES_MAX + 1, false},
    {MESSAGE_APPEND, 4, 4, UINT32_MAX, false},
    /* indexes that the core counts with */
    {MESSAGE_APPEND_RESULT, 16, 8, HALF - 1, true},
    {MESSAGE_APPEND_RESULT, 16, 8, HALF, false},
    {MESSAGE_APPEND_RESULT, 24, 8, HALF - 1, true},
    {MESSAGE_APPEND_RESULT, 24, 8, HALF, false},
    {MESSAGE_VOTE, 16, 8, 0, false}, /* candidate */
    {MESSAGE_PING, 16, 8, 0, false}, /* stamp */
    {MESSAGE_ECHO, 16, 8, 0, false},
    {MESSAGE_REMOVED, 16, 8, 0, false},
    {MESSAGE_VERDICT, 16, 8, 0, false},
    /* snapshots */
    {MESSAGE_SNAPSHOT_OFFER, 16, 8, 0, false}, /* where the log begins */
    {MESSAGE_SNAPSHOT_OFFER, 4, 4, 0, false},  /* bytes of the header */
    {MESSAGE_SNAPSHOT_OFFER, 4, 4, 16, true},
    {MESSAGE_SNAPSHOT_OFFER, 4, 4, 17, false},
    {MESSAGE_SNAPSHOT_OFFER, 4, 4, UINT32_MAX, false},
    {MESSAGE_SNAPSHOT_ASK, 32, 8, 0, false}, /* index */
    {MESSAGE_SNAPSHOT_ASK, 32, 8, HALF - 1, true},
    {MESSAGE_SNAPSHOT_ASK, 32, 8, HALF, false},
    {MESSAGE_SNAPSHOT_ASK, 40, 8, 0, false}, /* term */
    {MESSAGE_SNAPSHOT_ASK, 40, 8, 7, true},
    {MESSAGE_SNAPSHOT_ASK, 40, 8, 8, false},
    {MESSAGE_SNAPSHOT_ASK, 56, 8, HALF - 1, true}, /* offset */
    {MESSAGE_SNAPSHOT_ASK, 56, 8, HALF, false},
    {MESSAGE_SNAPSHOT_ASK, 88, 4, 0, true},  /* window */
    {MESSAGE_SNAPSHOT_ASK, 92, 4, 0, false}, /* round */
    {MESSAGE_SNAPSHOT_PIECE, 72, 4, 0, false},
    {MESSAGE_SNAPSHOT_PIECE, 4, 4, 0, false}, /* bytes of data */
    {MESSAGE_SNAPSHOT_PIECE, 4, 4, 8, true},
    {MESSAGE_SNAPSHOT_PIECE, 4, 4, 9, false},
    {MESSAGE_SNAPSHOT_PIECE, 4, 4, UINT32_MAX, false},
    {MESSAGE_SNAPSHOT_REFUSED, 40, 4, 0, false}, /* why */
    {MESSAGE_SNAPSHOT_REFUSED, 40, 4, 1, true},
    {MESSAGE_SNAPSHOT_REFUSED, 40, 4, MESSAGE_REFUSALS - 1, true},
    {MESSAGE_SNAPSHOT_REFUSED, 40, 4, MESSAGE_REFUSALS, false},
};

START_TEST(every_field_has_its_bounds)
{
    const struct change *c = &changes[_i];
    size_t len = sample_frame(c->type);
    memcpy(frame + c->offset, &c->value, c->bytes);
    ck_assert_msg(decodes(frame, len) == c->accepted, "type %d, offset %zu, value %llu", (int)c->type, c->offset,
                  (unsigned long long)c->value);
}
END_TEST

START_TEST(the_first_entries_of_a_log_follow_nothing)
{
    struct message m = sample_of(MESSAGE_APPEND);
    m.append.prev_index = 0;
    m.append.prev_term = 0;
    ck_assert(decodes(frame, frame_of(&m, sample_entries, frame)));
}
END_TEST

START_TEST(as_many_entries_as_allowed_fit_and_no_more)
{
    static struct message_entry many[MESSAGE_ENTRIES_MAX + 1];
    struct message m = sample_of(MESSAGE_APPEND);
    for (unsigned i = 0; i <= MESSAGE_ENTRIES_MAX; i++)
        many[i] = (struct message_entry){.term = 7, .type = 1, .len = 1, .data = "x"};
    m.append.n_entries = MESSAGE_ENTRIES_MAX;
    ck_assert(decodes(frame, frame_of(&m, many, frame)));
    ck_assert_uint_eq(decoded.append.n_entries, MESSAGE_ENTRIES_MAX);
    m.append.n_entries = MESSAGE_ENTRIES_MAX + 1;
    ck_assert(!decodes(frame, frame_of(&m, many, frame)));
}
END_TEST

START_TEST(the_largest_parts_of_a_snapshot_fit_and_no_larger)
{
    static uint8_t zeros[MESSAGE_SNAPSHOT_PIECE_MAX + 1];
    struct message m = sample_of(MESSAGE_SNAPSHOT_PIECE);
    m.snapshot_piece.data = zeros;
    m.snapshot_piece.len = MESSAGE_SNAPSHOT_PIECE_MAX;
    ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
    ck_assert_uint_eq(decoded.snapshot_piece.len, MESSAGE_SNAPSHOT_PIECE_MAX);
    m.snapshot_piece.len = MESSAGE_SNAPSHOT_PIECE_MAX + 1;
    ck_assert(!decodes(frame, frame_of(&m, NULL, frame)));
    m = sample_of(MESSAGE_SNAPSHOT_OFFER);
    m.snapshot_offer.header = zeros;
    m.snapshot_offer.header_len = MESSAGE_SNAPSHOT_HEADER_MAX;
    ck_assert(decodes(frame, frame_of(&m, NULL, frame)));
    m.snapshot_offer.header_len = MESSAGE_SNAPSHOT_HEADER_MAX + 1;
    ck_assert(!decodes(frame, frame_of(&m, NULL, frame)));
}
END_TEST

/* Lines of "<type> <hex>". */
static void golden_line(FILE *file, char *line, size_t size)
{
    do {
        ck_assert_ptr_nonnull(fgets(line, (int)size, file));
    } while (line[0] == '#');
}

START_TEST(frames_have_the_bytes_of_the_golden_file)
{
    static char line[4096];
    char expected[4096];
    FILE *file = golden_open("messages-v1.hex");
    for (unsigned type = 1; type <= SAMPLES; type++) {
        size_t len = sample_frame((enum message_type)type);
        int n = snprintf(expected, sizeof expected, "%u ", type);
        for (size_t i = 0; i < len; i++)
            n += snprintf(expected + n, sizeof expected - (size_t)n, "%02x", frame[i]);
        golden_line(file, line, sizeof line);
        line[strcspn(line, "\n")] = '\0';
        ck_assert_str_eq(line, expected);
    }
    ck_assert_ptr_null(fgets(line, sizeof line, file));
    fclose(file);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("message");
    tcase_add_loop_test(cases, every_type_survives_the_way_there_and_back, 1, SAMPLES + 1);
    tcase_add_test(cases, fields_arrive_where_they_belong);
    tcase_add_test(cases, every_flag_is_carried_alone);
    tcase_add_test(cases, a_flag_that_is_not_known_changes_nothing);
    tcase_add_loop_test(cases, a_frame_cut_anywhere_is_refused, 1, SAMPLES + 1);
    tcase_add_loop_test(cases, a_frame_with_bytes_behind_it_is_refused, 1, SAMPLES + 1);
    tcase_add_loop_test(cases, every_field_has_its_bounds, 0, sizeof changes / sizeof changes[0]);
    tcase_add_test(cases, the_first_entries_of_a_log_follow_nothing);
    tcase_add_test(cases, as_many_entries_as_allowed_fit_and_no_more);
    tcase_add_test(cases, the_largest_parts_of_a_snapshot_fit_and_no_larger);
    tcase_add_test(cases, frames_have_the_bytes_of_the_golden_file);
    Suite *suite = suite_create("message");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
