/* The arithmetic of leases and grants at its boundaries. T = 300 ms, rho = 1 %, slack = 3 ms unless said otherwise. */
#include <check.h>
#include <stdlib.h>

#include "consensus/lease.h"

#define T_US 300000u
#define LOSS_US (6000u + 1u + 3000u) /* 2 rho T, rounding, slack */
#define G_US 150000u

static struct lease lease;

/* Two exchanges with each peer, T apart: their clocks run like ours. What they echo is long past. */
static void compare_clocks(unsigned peers)
{
    for (uint64_t id = 2; id < 2 + peers; id++) {
        lease_echo(&lease, id, 1, 1000, 7000200, 0, 1500);
        lease_echo(&lease, id, 1, 1000 + T_US, 7000200 + T_US, 0, 1500 + T_US);
    }
}

static void setup_with(uint32_t rho_ppm, unsigned peers)
{
    const struct lease_config config = {
        .timeout_us = T_US, .rho_ppm = rho_ppm, .slack_us = 3000, .leases = true, .grants = true};
    const uint64_t ids[] = {2, 3, 4, 5};
    const bool voters[] = {true, true, true, true};

    lease_init(&lease, &config);
    lease_members(&lease, ids, voters, peers, true);
    lease_lead_begins(&lease);
    compare_clocks(peers);
}

static void echo(uint64_t id, uint64_t stamp, uint64_t now)
{
    lease_echo(&lease, id, 1, stamp, now + 7000000, 10, now);
}

START_TEST(no_echo_no_lease)
{
    setup_with(10000, 2);
    ck_assert_int_eq(lease_check(&lease, 1000000), LEASE_OFF_QUORUM);
}
END_TEST

START_TEST(lease_ends_with_the_quorum_stamp)
{
    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    const uint64_t end = 1000000 + T_US - LOSS_US;
    ck_assert_uint_eq(lease_end(&lease, 1000500), end);
    ck_assert_int_eq(lease_check(&lease, end - 1), LEASE_NONE);
    ck_assert_int_eq(lease_check(&lease, end), LEASE_OFF_QUORUM);
}
END_TEST

START_TEST(five_voters_need_the_third_newest_stamp)
{
    setup_with(10000, 4);
    echo(2, 1000000, 1000500);
    ck_assert_int_eq(lease_check(&lease, 1000500), LEASE_OFF_QUORUM);
    echo(3, 1200000, 1200500);
    ck_assert_uint_eq(lease_end(&lease, 1200500), 1000000 + T_US - LOSS_US);
    echo(4, 1100000, 1200600);
    ck_assert_uint_eq(lease_end(&lease, 1200600), 1100000 + T_US - LOSS_US);
}
END_TEST

START_TEST(the_quorum_is_that_of_the_newest_configuration)
{
    const uint64_t ids[] = {2, 3, 4};
    const bool learner_4[] = {true, true, false};
    const bool voter_4[] = {true, true, true};
    const bool learner_3[] = {true, false, false};

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    lease_members(&lease, ids, learner_4, 3, true);
    ck_assert_int_eq(lease_check(&lease, 1000500), LEASE_NONE);
    lease_members(&lease, ids, voter_4, 3, true); /* three of four */
    ck_assert_int_eq(lease_check(&lease, 1000600), LEASE_OFF_QUORUM);
    echo(3, 1100000, 1100500);
    ck_assert_uint_eq(lease_end(&lease, 1100500), 1000000 + T_US - LOSS_US);
    lease_members(&lease, ids, learner_3, 3, true); /* both of two: the learner's stamp no longer counts */
    echo(3, 1200000, 1200500);
    ck_assert_uint_eq(lease_end(&lease, 1200500), 1000000 + T_US - LOSS_US);
}
END_TEST

START_TEST(ping_echo_extends_nothing)
{
    setup_with(10000, 2);
    lease_echo(&lease, 2, 1, 0, 42, 10, 1000000);
    ck_assert_int_eq(lease_check(&lease, 1000000), LEASE_OFF_QUORUM);
}
END_TEST

START_TEST(a_stamp_from_the_future_is_no_echo)
{
    setup_with(10000, 2);
    echo(2, 1002000, 1000000);
    ck_assert_int_eq(lease_check(&lease, 1000000), LEASE_OFF_QUORUM);
}
END_TEST

START_TEST(grant_needs_time_left_on_the_lease)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000000 + T_US - LOSS_US - G_US);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000000 + T_US - LOSS_US - G_US, &instant), G_US);
    setup_with(10000, 2);
    echo(2, 1000000, 1000000 + T_US - LOSS_US - G_US + 1);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000000 + T_US - LOSS_US - G_US + 1, &instant), 0);
}
END_TEST

START_TEST(grant_is_refused_to_who_lacks_a_committed_entry)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_eq(lease_grant(&lease, 2, 11, 1000500, &instant), 0);
    ck_assert_uint_eq(lease_grants_end(&lease), 0);
}
END_TEST

START_TEST(grant_counts_longer_than_it_may_be_used)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000500, &instant), G_US);
    ck_assert_uint_eq(instant, 8000500);
    /* G (1 + rho) / (1 - rho) after the echo arrived, and 2 ms. */
    const uint64_t until = lease_grant_until(&lease, 2);
    ck_assert_uint_ge(until, 1000500 + G_US * 101 / 99 + 2000);
    ck_assert_uint_le(until, 1000500 + G_US * 101 / 99 + 2002);
}
END_TEST

START_TEST(entries_ask_for_echoes_of_grantees_to_be)
{
    uint64_t instant;

    setup_with(10000, 2);
    ck_assert(!lease_wants_echo(&lease, 3, 1000500)); /* without a lease there are no grants */
    echo(2, 1000000, 1000500);
    ck_assert(lease_wants_echo(&lease, 3, 1000500));
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000500, &instant), G_US);
    lease_transfer_begins(&lease);
    ck_assert(!lease_wants_echo(&lease, 3, 1000600));
    ck_assert(lease_wants_echo(&lease, 2, 1000600)); /* its grant is out */
    ck_assert(!lease_wants_echo(&lease, 2, lease_grant_until(&lease, 2)));
    ck_assert(!lease_wants_echo(&lease, 9, 1000600));
}
END_TEST

START_TEST(exposure_waits_for_every_active_grantee)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_gt(lease_grant(&lease, 2, 10, 1000500, &instant), 0);
    ck_assert_uint_eq(lease_exposed(&lease, 12, 1000600), 10);
    lease_echo(&lease, 2, 1, 1000700, 9000000, 12, 1000800);
    ck_assert_uint_eq(lease_exposed(&lease, 12, 1000900), 12);
}
END_TEST

START_TEST(exposure_goes_on_when_the_grant_has_ended)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_gt(lease_grant(&lease, 2, 10, 1000500, &instant), 0);
    const uint64_t until = lease_grant_until(&lease, 2);
    ck_assert_uint_eq(lease_exposed(&lease, 12, until - 1), 10);
    ck_assert_uint_eq(lease_next_grant_end(&lease, until - 1), until);
    ck_assert_uint_eq(lease_exposed(&lease, 12, until), 12);
}
END_TEST

START_TEST(grants_outlive_the_term_and_the_removal_of_their_holder)
{
    uint64_t instant;
    const uint64_t ids[] = {3};
    const bool voters[] = {true};

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_gt(lease_grant(&lease, 2, 10, 1000500, &instant), 0);
    const uint64_t end = lease_grants_end(&lease);
    lease_lead_ends(&lease);
    ck_assert_uint_eq(lease_grants_end(&lease), end);
    lease_members(&lease, ids, voters, 1, true);
    lease_lead_begins(&lease);
    ck_assert_uint_eq(lease_grants_end(&lease), end);
    ck_assert_uint_eq(lease_exposed(&lease, 12, end - 1), 0);
}
END_TEST

START_TEST(received_does_not_survive_a_new_connection)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_gt(lease_grant(&lease, 2, 10, 1000500, &instant), 0);
    lease_echo(&lease, 2, 2, 1000600, 9000000, 4, 1000700);
    ck_assert_uint_eq(lease_exposed(&lease, 12, 1000800), 4);
    lease_echo(&lease, 2, 1, 1000900, 9000000, 12, 1001000); /* late, of the old connection */
    ck_assert_uint_eq(lease_exposed(&lease, 12, 1001000), 4);
}
END_TEST

START_TEST(a_transfer_ends_the_lease_for_the_term)
{
    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    lease_transfer_begins(&lease);
    ck_assert_int_eq(lease_check(&lease, 1000600), LEASE_OFF_TRANSFER);
    echo(2, 1100000, 1100500);
    ck_assert_int_eq(lease_check(&lease, 1100600), LEASE_OFF_TRANSFER);
    lease_lead_begins(&lease);
    compare_clocks(2);
    echo(2, 1200000, 1200500);
    ck_assert_int_eq(lease_check(&lease, 1200600), LEASE_NONE);
}
END_TEST

/* Echoes every 30 ms over 5 s from a peer whose clock runs at `ppm` of ours. */
static enum lease_off after_drift(uint64_t ppm)
{
    uint64_t now = 1000000;

    for (unsigned i = 0; i < 166; i++, now += 30000) {
        lease_echo(&lease, 2, 1, now, 5000000 + (now - 1000000) * ppm / 1000000, 10, now + 200);
    }
    return lease_check(&lease, now - 30000 + 300);
}

START_TEST(an_echo_counts_once_clocks_were_compared)
{
    uint64_t instant;

    setup_with(10000, 2);
    lease_lead_begins(&lease); /* a new term: compare anew */
    echo(2, 1000000, 1000500);
    ck_assert_int_eq(lease_check(&lease, 1000500), LEASE_OFF_QUORUM);
    echo(2, 1000000 + T_US / 4, 1000500 + T_US / 4);
    ck_assert_int_eq(lease_check(&lease, 1000500 + T_US / 4), LEASE_OFF_QUORUM);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000500 + T_US / 4, &instant), 0);
    echo(2, 1000000 + T_US / 2, 1000500 + T_US / 2);
    ck_assert_int_eq(lease_check(&lease, 1000500 + T_US / 2), LEASE_NONE);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000500 + T_US / 2, &instant), G_US);
    ck_assert_uint_eq(lease_grant(&lease, 3, 10, 1000500 + T_US / 2, &instant), 0);
}
END_TEST

START_TEST(a_new_connection_compares_clocks_anew)
{
    setup_with(10000, 2);
    lease_echo(&lease, 2, 2, 1000000, 8000000, 10, 1000500);
    ck_assert_int_eq(lease_check(&lease, 1000500), LEASE_OFF_QUORUM);
}
END_TEST

START_TEST(drift_outlasts_the_term)
{
    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    lease_echo(&lease, 2, 1, 1200000, 8000500 + 300000, 10, 1200500);
    ck_assert_int_eq(lease_check(&lease, 1200500), LEASE_OFF_DRIFT);
    lease_lead_begins(&lease);
    compare_clocks(2);
    echo(2, 1400000, 1400500);
    ck_assert_int_eq(lease_check(&lease, 1400500), LEASE_OFF_DRIFT);
}
END_TEST

START_TEST(a_holder_that_drifts_counts_for_longer)
{
    uint64_t instant;

    setup_with(10000, 2);
    echo(2, 1000000, 1000500);
    ck_assert_uint_eq(lease_grant(&lease, 2, 10, 1000500, &instant), G_US);
    const uint64_t until = lease_grant_until(&lease, 2);
    lease_echo(&lease, 2, 1, 1140000, 8000500 + 10000, 10, 1140500); /* its clock nearly stands still */
    ck_assert_int_eq(lease_check(&lease, 1140500), LEASE_OFF_DRIFT);
    ck_assert_uint_eq(lease_grant_until(&lease, 2), until + G_US);
    lease_echo(&lease, 2, 1, 1145000, 8000500 + 10100, 10, 1145500);
    ck_assert_uint_eq(lease_grant_until(&lease, 2), until + G_US); /* once */
}
END_TEST

START_TEST(drift_within_the_bound_is_tolerated)
{
    setup_with(10000, 2);
    ck_assert_int_eq(after_drift(1019000), LEASE_NONE);
    setup_with(10000, 2);
    ck_assert_int_eq(after_drift(981000), LEASE_NONE);
}
END_TEST

START_TEST(drift_beyond_the_bound_turns_leases_off)
{
    setup_with(10000, 2);
    ck_assert_int_eq(after_drift(1025000), LEASE_OFF_DRIFT);
    setup_with(10000, 2);
    ck_assert_int_eq(after_drift(975000), LEASE_OFF_DRIFT);
}
END_TEST

START_TEST(grant_is_usable_once_its_index_is_received)
{
    struct grant grant = {0};

    grant_take(&grant, 3, 1000, 500, 20);
    ck_assert(!grant_is_valid(&grant, 3, 19, 1100));
    ck_assert(grant_is_valid(&grant, 3, 20, 1499));
    ck_assert(!grant_is_valid(&grant, 3, 20, 1500));
    ck_assert(!grant_is_valid(&grant, 4, 20, 1100));
    grant_drop(&grant);
    ck_assert(!grant_is_valid(&grant, 3, 20, 1100));
}
END_TEST

START_TEST(a_renewal_asks_for_its_own_index)
{
    struct grant grant = {0};

    grant_take(&grant, 3, 1000, 500, 20);
    grant_take(&grant, 3, 1200, 500, 25);
    ck_assert(!grant_is_valid(&grant, 3, 24, 1300));
    ck_assert(grant_is_valid(&grant, 3, 25, 1699));
    grant_take(&grant, 3, 1100, 500, 30); /* an older one changes nothing */
    ck_assert(grant_is_valid(&grant, 3, 25, 1699));
}
END_TEST

START_TEST(a_grant_is_withheld_for_as_long_as_asked)
{
    uint64_t instant;
    setup_with(10000, 2);
    lease_withhold(&lease, 2, 1001000);
    for (uint64_t now = 1000500; now < 1002000; now += 250) {
        echo(2, now - 100, now);
        echo(3, now - 100, now);
        ck_assert_uint_eq(lease_grant(&lease, 2, 10, now, &instant), now < 1001000 ? 0 : G_US);
        ck_assert_uint_eq(lease_grant(&lease, 3, 10, now, &instant), G_US); /* others get theirs */
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lease");
    TCase *tcase = tcase_create("arithmetic");

    tcase_add_test(tcase, no_echo_no_lease);
    tcase_add_test(tcase, lease_ends_with_the_quorum_stamp);
    tcase_add_test(tcase, five_voters_need_the_third_newest_stamp);
    tcase_add_test(tcase, the_quorum_is_that_of_the_newest_configuration);
    tcase_add_test(tcase, ping_echo_extends_nothing);
    tcase_add_test(tcase, a_stamp_from_the_future_is_no_echo);
    tcase_add_test(tcase, grant_needs_time_left_on_the_lease);
    tcase_add_test(tcase, grant_is_refused_to_who_lacks_a_committed_entry);
    tcase_add_test(tcase, grant_counts_longer_than_it_may_be_used);
    tcase_add_test(tcase, entries_ask_for_echoes_of_grantees_to_be);
    tcase_add_test(tcase, exposure_waits_for_every_active_grantee);
    tcase_add_test(tcase, exposure_goes_on_when_the_grant_has_ended);
    tcase_add_test(tcase, grants_outlive_the_term_and_the_removal_of_their_holder);
    tcase_add_test(tcase, received_does_not_survive_a_new_connection);
    tcase_add_test(tcase, a_transfer_ends_the_lease_for_the_term);
    tcase_add_test(tcase, an_echo_counts_once_clocks_were_compared);
    tcase_add_test(tcase, a_new_connection_compares_clocks_anew);
    tcase_add_test(tcase, drift_outlasts_the_term);
    tcase_add_test(tcase, a_holder_that_drifts_counts_for_longer);
    tcase_add_test(tcase, drift_within_the_bound_is_tolerated);
    tcase_add_test(tcase, drift_beyond_the_bound_turns_leases_off);
    tcase_add_test(tcase, grant_is_usable_once_its_index_is_received);
    tcase_add_test(tcase, a_renewal_asks_for_its_own_index);
    tcase_add_test(tcase, a_grant_is_withheld_for_as_long_as_asked);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
