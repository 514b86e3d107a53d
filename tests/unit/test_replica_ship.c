/* What a leader does for a learner that it sends a snapshot: it keeps its log, and drops it when that is over; and it
 * says whether the learner's content is right then. The learner is played by the test: it has nothing, and says so to
 * each APPEND. */
#include "tests/unit/replica_toy.h"

#include "consensus/message.h"
#include "consensus/snapshot.h"

#define LEARNER 2u
/* Of the log before a snapshot, at most. */
#define KEPT_ENTRIES 10u
/* More than a peer is given to say something. */
#define PATIENCE_MS 12000u

static struct {
    bool answers;
    uint64_t has; /* its log, and what it says of it */
    uint64_t rejects;
    uint64_t stamp; /* newest one to be echoed */
    bool asked;
    unsigned offers;
    uint8_t file_id[16];
} learner;

static bool send_cb(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n)
{
    static uint8_t frame[1 << 20];
    static struct message_entry entries[MESSAGE_ENTRIES_MAX];
    struct message m;
    size_t len = 0;

    (void)ctx;
    ck_assert_uint_eq(peer, LEARNER);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_le(len + pieces[i].iov_len, sizeof frame);
        memcpy(frame + len, pieces[i].iov_base, pieces[i].iov_len);
        len += pieces[i].iov_len;
    }
    ck_assert(message_decode(frame, len, &m, entries));
    if (m.type == MESSAGE_APPEND) {
        learner.asked = true;
        learner.stamp = m.append.stamp > 0 ? m.append.stamp : learner.stamp;
        learner.rejects = m.append.prev_index > learner.has ? m.append.prev_index : 0;
        learner.has = learner.rejects == 0 && m.append.prev_index + m.append.n_entries > learner.has
                          ? m.append.prev_index + m.append.n_entries
                          : learner.has;
    } else if (m.type == MESSAGE_SNAPSHOT_OFFER) {
        struct snapshot_meta meta;
        learner.offers++;
        ck_assert_int_eq(snapshot_header_check(m.snapshot_offer.header, m.snapshot_offer.header_len, &meta),
                         SNAPSHOT_OK);
        memcpy(learner.file_id, meta.file_id, sizeof learner.file_id);
    }
    return true;
}

static void say(const struct message *m)
{
    uint8_t head[MESSAGE_HEAD_MAX];

    ck_assert(replica_receive(replica, LEARNER, 1, head, message_encode(m, head)));
}

/* Loop turns of a millisecond, in which the learner answers if it is alive. */
static void live(unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        turns(1);
        if (learner.answers && learner.asked) {
            struct message m = {.type = MESSAGE_APPEND_RESULT, .term = look().term};
            m.append_result.rejected = learner.rejects;
            m.append_result.last_index = learner.has;
            learner.asked = false;
            say(&m);
        }
    }
}

/* The learner has been offered a snapshot, and then the leader took another one. Gives the first entry that is left. */
static uint64_t hold(void)
{
    const char *why = "";

    config.snapshots.keep_bytes = KEPT_ENTRIES * sizeof(struct toy_entry);
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(60);
    (void)take();
    learner.answers = true;
    ck_assert_int_eq(replica_change(replica, REPLICA_ADD_LEARNER, LEARNER, "learner", &why), REPLICA_OK);
    replica_peer_state(replica, LEARNER, true);
    for (unsigned i = 0; i < 5000 && learner.offers == 0; i++) {
        live(1);
    }
    ck_assert_uint_eq(learner.offers, 1);
    ck_assert_uint_eq(look().snapshot_sends, 1);
    const uint64_t offered = look().snapshot.index;
    write_entries(100);
    ck_assert_uint_gt(take(), offered + 90);
    ck_assert_uint_le(look().log_start, offered);
    ck_assert_uint_le(look().first, offered);
    return look().first;
}

/* Nothing is left of the log but what the newest snapshot needs, and the segment that it is in. */
static void assert_released(uint64_t first)
{
    turns(50); /* the disk's part of it */
    ck_assert_uint_eq(look().snapshot_sends, 0);
    ck_assert_uint_ge(look().log_start + KEPT_ENTRIES, look().snapshot.index);
    ck_assert_uint_gt(look().first, first + 60);
}

static void setup_hold(void)
{
    memset(&learner, 0, sizeof learner);
    setup();
    mem_env_network(mem, send_cb, NULL);
}

START_TEST(a_learner_that_stops_holds_the_log_for_a_while)
{
    const uint64_t first = hold();
    learner.answers = false;
    live(5000); /* a slow one may say nothing for that long */
    ck_assert_uint_eq(look().first, first);
    live(PATIENCE_MS);
    assert_released(first);
}
END_TEST

START_TEST(a_removed_one_holds_nothing)
{
    const char *why = "";
    const uint64_t first = hold();
    learner.answers = false;
    ck_assert_int_eq(replica_change(replica, REPLICA_REMOVE, LEARNER, NULL, &why), REPLICA_OK);
    live(200);
    assert_released(first);
}
END_TEST

START_TEST(one_that_refuses_holds_nothing)
{
    struct message m = {.type = MESSAGE_SNAPSHOT_REFUSED};
    const uint64_t first = hold();

    m.term = look().term;
    m.snapshot_refused.why = MESSAGE_REFUSED_NO_SPACE;
    memcpy(m.snapshot_refused.file_id, learner.file_id, sizeof learner.file_id);
    learner.answers = false;
    say(&m);
    live(10);
    assert_released(first);
}
END_TEST

START_TEST(one_that_has_caught_up_holds_nothing)
{
    struct message m = {.type = MESSAGE_SNAPSHOT_DONE};
    const uint64_t first = hold();

    m.term = look().term;
    memcpy(m.snapshot_done.file_id, learner.file_id, sizeof learner.file_id);
    learner.has = look().snapshot.index - 90; /* what it was offered, and a little of the log behind that */
    say(&m);
    live(2000);
    ck_assert_uint_eq(learner.has, look().last); /* from the log: it was not offered another one */
    ck_assert_uint_eq(learner.offers, 1);
    assert_released(first);
}
END_TEST

START_TEST(nothing_is_held_across_a_restart)
{
    const uint64_t first = hold();

    learner.answers = false;
    close_replica();
    open_replica();
    turns(200);
    assert_released(first);
}
END_TEST

START_TEST(what_is_released_is_dropped_once_and_the_log_goes_on)
{
    const uint64_t first = hold();

    learner.answers = false;
    live(PATIENCE_MS);
    assert_released(first);
    write_entries(60);
    const uint64_t index = take();
    ck_assert_uint_ge(look().log_start + KEPT_ENTRIES, index);
    write_entries(3);
    const uint64_t sum = toy.sum;
    close_replica();
    open_replica();
    turns(500);
    ck_assert_uint_eq(toy.sum, sum);
}
END_TEST

/* --- Content ------------------------------------------------------------------------------------------------------ */

/* The learner's digest at `index`, and what the leader logs about it. */
static const char *report(uint64_t index, uint64_t digest)
{
    struct message m = {.type = MESSAGE_ECHO};

    m.term = look().term;
    m.echo.stamp = learner.stamp;
    m.echo.accepted = true;
    m.echo.applied = index;
    m.echo.digest_index = index;
    m.echo.digest = digest;
    say(&m);
    return mem_env_log(mem);
}

/* The next index at which digests are compared, and this node's there. */
static uint64_t compared(uint64_t *digest)
{
    do {
        write_entries(1);
    } while (look().applied % 64 != 0);
    *digest = toy_digest(&toy);
    return look().applied;
}

static void finish(void)
{
    struct message m = {.type = MESSAGE_SNAPSHOT_DONE};

    m.term = look().term;
    memcpy(m.snapshot_done.file_id, learner.file_id, sizeof learner.file_id);
    say(&m);
}

START_TEST(content_that_is_still_wrong_after_a_snapshot_is_told)
{
    uint64_t digest;

    (void)hold();
    const uint64_t first = compared(&digest);
    ck_assert_ptr_nonnull(strstr(report(first, digest + 1), "content of node 2 differs from that of a majority at"));
    finish();
    ck_assert_ptr_nonnull(strstr(mem_env_log(mem), "has the snapshot"));
    const uint64_t second = compared(&digest);
    ck_assert_ptr_nonnull(strstr(report(second, digest + 1), "although it has got this node's since"));
    ck_assert_uint_eq(look().digest_mismatches, 2);
    const uint64_t third = compared(&digest);
    (void)report(third, digest + 1); /* nothing new */
    ck_assert_uint_eq(look().digest_mismatches, 2);
}
END_TEST

START_TEST(content_that_is_right_after_a_snapshot_is_told)
{
    uint64_t digest;

    (void)hold();
    const uint64_t first = compared(&digest);
    ck_assert_ptr_nonnull(strstr(report(first, digest + 1), "content of node 2 differs from that of a majority at"));
    finish();
    const uint64_t second = compared(&digest);
    ck_assert_ptr_nonnull(strstr(report(second, digest), "content of node 2 agrees with that of a majority again"));
    ck_assert_uint_eq(look().digest_mismatches, 1);
}
END_TEST

START_TEST(content_that_is_not_a_majoritys_is_not_given_and_that_is_told)
{
    struct message m = {.type = MESSAGE_SNAPSHOT_ASK};
    uint64_t digest;

    (void)hold();
    m.snapshot_ask.at.payload = compared(&digest);
    m.snapshot_ask.at.check = digest + 1;
    m.snapshot_ask.file.index = look().applied;
    m.snapshot_ask.file.term = m.term = look().term;
    m.snapshot_ask.round = 1;
    say(&m);
    ck_assert_ptr_nonnull(
        strstr(mem_env_log(mem), "wants this node's content in place of its own and does not get it"));
    ck_assert_uint_eq(learner.offers, 1);
    m.snapshot_ask.at.check = digest;
    for (unsigned i = 0; i < 1000 && learner.offers == 1; i++) {
        say(&m);
        live(10);
    }
    ck_assert_uint_eq(learner.offers, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_ship");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup_hold, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_learner_that_stops_holds_the_log_for_a_while);
    tcase_add_test(tcase, a_removed_one_holds_nothing);
    tcase_add_test(tcase, one_that_refuses_holds_nothing);
    tcase_add_test(tcase, one_that_has_caught_up_holds_nothing);
    tcase_add_test(tcase, nothing_is_held_across_a_restart);
    tcase_add_test(tcase, what_is_released_is_dropped_once_and_the_log_goes_on);
    tcase_add_test(tcase, content_that_is_still_wrong_after_a_snapshot_is_told);
    tcase_add_test(tcase, content_that_is_right_after_a_snapshot_is_told);
    tcase_add_test(tcase, content_that_is_not_a_majoritys_is_not_given_and_that_is_told);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
