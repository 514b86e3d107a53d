/* Whose turn it is to write a snapshot: both decisions as tables, and a cluster of nothing but them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "consensus/snapshot_turn.h"

#define KB 1000u

/* --- A member ----------------------------------------------------------------------------------------------------- */

struct step_case {
    const char *what;
    struct snapshot_need need;
    enum snapshot_turn turn;
    enum snapshot_step step;
};

#define BY_SIZE(bytes)                                                                                                 \
    {                                                                                                                  \
        .log_bytes = (bytes), .log_bytes_due = 100 * KB                                                                \
    }
#define BY_AGE(us)                                                                                                     \
    {                                                                                                                  \
        .age_us = (us), .age_us_due = 100 * KB                                                                         \
    }

static const struct step_case step_cases[] = {
    {"nothing is configured", {.log_bytes = UINT64_MAX, .age_us = UINT64_MAX}, SNAPSHOT_TURN_OWN, SNAPSHOT_NOT_DUE},
    {"below both", {5, 6, 5, 6, false}, SNAPSHOT_TURN_OWN, SNAPSHOT_NOT_DUE},
    {"below the size", BY_SIZE(100 * KB - 1), SNAPSHOT_TURN_OWN, SNAPSHOT_NOT_DUE},
    {"by size, own turn", BY_SIZE(100 * KB), SNAPSHOT_TURN_OWN, SNAPSHOT_BEGINS},
    {"by size, nobody's turn", BY_SIZE(100 * KB), SNAPSHOT_TURN_OPEN, SNAPSHOT_WAITS},
    {"by size, another's turn", BY_SIZE(100 * KB), SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
    {"by size, a leader that gives no turns", BY_SIZE(100 * KB), SNAPSHOT_TURN_UNKNOWN, SNAPSHOT_BEGINS},
    {"just below twice the size", BY_SIZE(200 * KB - 1), SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
    {"twice the size", BY_SIZE(200 * KB), SNAPSHOT_TURN_OTHER, SNAPSHOT_OVERDUE},
    {"twice the size, nobody's turn", BY_SIZE(200 * KB), SNAPSHOT_TURN_OPEN, SNAPSHOT_OVERDUE},
    {"twice the size, own turn", BY_SIZE(200 * KB), SNAPSHOT_TURN_OWN, SNAPSHOT_BEGINS},
    {"by age, own turn", BY_AGE(100 * KB), SNAPSHOT_TURN_OWN, SNAPSHOT_BEGINS},
    {"by age, another's turn", BY_AGE(100 * KB), SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
    {"just below twice the age", BY_AGE(200 * KB - 1), SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
    {"twice the age", BY_AGE(200 * KB), SNAPSHOT_TURN_OTHER, SNAPSHOT_OVERDUE},
    {"by age, and twice the size", {200, 100, 100, 100, false}, SNAPSHOT_TURN_OTHER, SNAPSHOT_OVERDUE},
    {"by size, and nearly twice the age", {100, 100, 199, 100, false}, SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
    {"asked for, not due", {.asked = true}, SNAPSHOT_TURN_OTHER, SNAPSHOT_BEGINS},
    {"asked for, due, another's turn", {100, 100, 0, 0, true}, SNAPSHOT_TURN_OTHER, SNAPSHOT_BEGINS},
    {"a threshold whose double is none", {UINT64_MAX, UINT64_MAX, 0, 0, false}, SNAPSHOT_TURN_OTHER, SNAPSHOT_WAITS},
};

START_TEST(a_member_begins_in_its_turn_or_when_it_is_overdue)
{
    const struct step_case *c = &step_cases[_i];

    ck_assert_msg(snapshot_step(&c->need, c->turn) == c->step, "%s: %d", c->what, snapshot_step(&c->need, c->turn));
}
END_TEST

/* --- The leader --------------------------------------------------------------------------------------------------- */

struct next_case {
    const char *what;
    struct snapshot_claim claims[4];
    unsigned n;
    uint64_t holder, leader, next;
};

#define IDLE(id, served)                                                                                               \
    {                                                                                                                  \
        (id), false, false, (served)                                                                                   \
    }
#define WAITS(id, served)                                                                                              \
    {                                                                                                                  \
        (id), true, false, (served)                                                                                    \
    }
#define WRITES(id, served)                                                                                             \
    {                                                                                                                  \
        (id), false, true, (served)                                                                                    \
    }

static const struct next_case next_cases[] = {
    {"no members", {{0}}, 0, 0, 1, 0},
    {"nobody wants it", {IDLE(1, 0), IDLE(2, 0), IDLE(3, 0)}, 3, 0, 1, 0},
    {"a lone leader", {WAITS(1, 4)}, 1, 0, 1, 1},
    {"one waits", {IDLE(1, 0), IDLE(2, 0), WAITS(3, 0)}, 3, 0, 1, 3},
    {"all wait: the lowest follower", {WAITS(1, 0), WAITS(3, 0), WAITS(2, 0)}, 3, 0, 1, 2},
    {"the leader after all others", {WAITS(2, 0), WAITS(1, 0), IDLE(3, 1)}, 3, 0, 1, 2},
    {"the leader when nobody else waits", {WAITS(1, 0), IDLE(2, 1), IDLE(3, 2)}, 3, 0, 1, 1},
    {"who was served longest ago", {WAITS(1, 9), WAITS(2, 8), WAITS(3, 7)}, 3, 0, 1, 3},
    {"a leader served longest ago", {WAITS(1, 6), WAITS(2, 8), WAITS(3, 7)}, 3, 0, 1, 1},
    {"the holder keeps it while it waits", {WAITS(1, 0), WAITS(2, 0), WAITS(3, 9)}, 3, 3, 1, 3},
    {"... and while it writes", {WAITS(1, 0), WAITS(2, 0), WRITES(3, 9)}, 3, 3, 1, 3},
    {"... also if another writes out of turn", {WRITES(1, 0), WAITS(2, 0), WAITS(3, 0)}, 3, 2, 1, 2},
    {"a holder that has finished", {IDLE(2, 5), WAITS(3, 1)}, 2, 2, 1, 3},
    {"a holder that is gone", {WAITS(2, 5), WAITS(3, 6)}, 2, 4, 1, 2},
    {"one that writes out of turn", {WAITS(1, 0), WAITS(2, 0), WRITES(3, 9)}, 3, 0, 1, 3},
    {"two that write out of turn", {WRITES(3, 1), WRITES(2, 2), WAITS(1, 0)}, 3, 0, 1, 2},
    {"an asked one while another holds it no more", {IDLE(1, 0), WRITES(2, 3), IDLE(3, 1)}, 3, 3, 1, 2},
};

START_TEST(the_leader_gives_the_turn_to_one)
{
    const struct next_case *c = &next_cases[_i];
    const uint64_t next = snapshot_turn_next(c->claims, c->n, c->holder, c->leader);

    ck_assert_msg(next == c->next, "%s: %llu", c->what, (unsigned long long)next);
}
END_TEST

/* --- Both --------------------------------------------------------------------------------------------------------- */

/* Five members whose logs grow alike, and a leader who hears at once: nobody is left out, nobody is ever overdue, and
 * two never write at once, since five snapshots take less time than the log needs to grow by the threshold. */
START_TEST(members_take_turns_for_ever)
{
    enum { MEMBERS = 5, TICKS = 100000, DUE = 1000, TAKES = 150 };
    unsigned since[MEMBERS] = {0}, left[MEMBERS] = {0}, taken[MEMBERS] = {0};
    uint64_t served[MEMBERS] = {0}, sequence = 0, holder = 0;

    for (unsigned tick = 0; tick < TICKS; tick++) {
        struct snapshot_claim claims[MEMBERS];
        unsigned writing = 0;
        for (unsigned i = 0; i < MEMBERS; i++) {
            since[i]++;
            claims[i] = (struct snapshot_claim){i + 1, left[i] == 0 && since[i] >= DUE, left[i] > 0, served[i]};
        }
        holder = snapshot_turn_next(claims, MEMBERS, holder, 1 + tick / 30000 % MEMBERS);
        for (unsigned i = 0; i < MEMBERS; i++) {
            const struct snapshot_need need = {.log_bytes = since[i], .log_bytes_due = DUE};
            const enum snapshot_turn turn = holder == i + 1 ? SNAPSHOT_TURN_OWN : SNAPSHOT_TURN_OTHER;
            const enum snapshot_step step = left[i] > 0 ? SNAPSHOT_NOT_DUE : snapshot_step(&need, turn);
            ck_assert_int_ne(step, SNAPSHOT_OVERDUE);
            if (step == SNAPSHOT_BEGINS) {
                since[i] = 0;
                left[i] = TAKES;
                taken[i]++;
                served[i] = ++sequence;
            }
            writing += left[i] > 0;
            left[i] -= left[i] > 0;
        }
        ck_assert_uint_le(writing, 1);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        ck_assert_uint_ge(taken[i], TICKS / (2 * DUE));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_turn");
    TCase *tcase = tcase_create("turns");
    tcase_add_loop_test(tcase, a_member_begins_in_its_turn_or_when_it_is_overdue, 0,
                        sizeof step_cases / sizeof step_cases[0]);
    tcase_add_loop_test(tcase, the_leader_gives_the_turn_to_one, 0, sizeof next_cases / sizeof next_cases[0]);
    tcase_add_test(tcase, members_take_turns_for_ever);
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
