/* Which cluster a node belongs to: drawn or derived at the first start, kept by the directory afterwards. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cmd/lockstepd/identity.h"
#include "consensus/slots.h"
#include "tests/unit/mem_env.h"

static struct mem_env *mem;
static struct config config;
static char error[CONFIG_ERROR_MAX];
static char name[] = "lockstep";

static void setup(void)
{
    mem = mem_env_new(7);
    config = (struct config){.id = 2, .cluster_name = name};
    error[0] = '\0';
}

static void teardown(void)
{
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
    mem_env_free(mem);
}

/* `member ID 10.0.0.HOST:7379` for each id. */
static void members(unsigned n, const uint64_t *ids, unsigned host)
{
    config.n_members = n;
    for (unsigned i = 0; i < n; i++) {
        config.members[i] = (struct config_member){.id = ids[i], .port = 7379, .peer_port = 17379};
        (void)snprintf(config.members[i].host, sizeof config.members[i].host, "10.0.%u.%u", host, (unsigned)ids[i]);
    }
}

static struct identity find(void)
{
    struct identity identity;

    ck_assert_msg(identity_find(mem_env_env(mem), &config, &identity, error), "%s", error);
    return identity;
}

static void keep(const uint8_t cluster[16], uint64_t starts)
{
    struct slots_state state = {.id = 2, .incarnation = 5, .term = 1, .starts = starts};
    struct slots *slots;

    memcpy(state.cluster, cluster, sizeof state.cluster);
    ck_assert_int_eq(slots_create(mem_env_env(mem), &state, &slots), SLOTS_OK);
    slots_close(slots);
}

static bool equal(const struct identity *a, const struct identity *b)
{
    return memcmp(a->cluster, b->cluster, sizeof a->cluster) == 0;
}

static const uint64_t three[] = {1, 2, 3}, turned[] = {3, 1, 2}, others[] = {1, 2, 4};

START_TEST(members_alike_make_one_cluster)
{
    members(3, three, 0);
    const struct identity first = find(), again = find();
    ck_assert(equal(&first, &again));
    members(3, turned, 0);
    const struct identity order = find();
    ck_assert(equal(&first, &order));
    ck_assert(first.bootstraps);
    members(3, three, 1);
    const struct identity elsewhere = find();
    ck_assert(!equal(&first, &elsewhere));
    ck_assert_mem_eq(first.cluster, elsewhere.cluster, 8);
    members(3, others, 0);
    const struct identity other_ids = find();
    ck_assert_mem_ne(first.cluster, other_ids.cluster, 8);
}
END_TEST

START_TEST(lone_nodes_draw)
{
    const struct identity first = find(), second = find();
    ck_assert(!equal(&first, &second));
    ck_assert(first.bootstraps && second.bootstraps);
    keep(first.cluster, 0); /* cut short before its log was written: still the same cluster */
    const struct identity again = find();
    ck_assert(equal(&first, &again));
    ck_assert(again.bootstraps);
}
END_TEST

START_TEST(directory_decides)
{
    members(3, three, 0);
    const struct identity first = find();
    keep(first.cluster, 1);
    members(3, three, 1); /* they moved */
    const struct identity moved = find();
    ck_assert(equal(&first, &moved));
    config.n_members = 0;
    const struct identity without = find();
    ck_assert(equal(&first, &without));
    ck_assert(!without.bootstraps);
    members(3, others, 0); /* another cluster's: replica_open refuses it */
    const struct identity other = find();
    ck_assert(!equal(&first, &other));
}
END_TEST

START_TEST(directory_of_an_older_version)
{
    XXH3_state_t *state = XXH3_createState();
    uint8_t cluster[16];

    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, name, sizeof name);
    XXH3_128bits_update(state, three, sizeof three);
    const XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    memcpy(cluster, &hash.high64, 8);
    memcpy(cluster + 8, &hash.low64, 8);
    keep(cluster, 1);
    members(3, three, 0);
    const struct identity identity = find();
    ck_assert_mem_eq(identity.cluster, cluster, sizeof cluster);
}
END_TEST

START_TEST(unfinished_first_start_needs_members)
{
    struct identity identity;

    members(3, three, 0);
    const struct identity first = find();
    keep(first.cluster, 0);
    config.n_members = 0;
    ck_assert(!identity_find(mem_env_env(mem), &config, &identity, error));
    ck_assert_ptr_nonnull(strstr(error, "member lines"));
    members(3, three, 0);
    const struct identity again = find();
    ck_assert(equal(&first, &again) && again.bootstraps);
}
END_TEST

START_TEST(joined_is_joined)
{
    config.joined = true;
    memset(config.joined_cluster, 0xab, sizeof config.joined_cluster);
    const struct identity identity = find();
    ck_assert_mem_eq(identity.cluster, config.joined_cluster, sizeof identity.cluster);
    ck_assert(!identity.bootstraps);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("identity");
    TCase *tcase = tcase_create("identity");
    SRunner *runner = srunner_create(suite);
    int failed;

    suite_add_tcase(suite, tcase);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, members_alike_make_one_cluster);
    tcase_add_test(tcase, lone_nodes_draw);
    tcase_add_test(tcase, directory_decides);
    tcase_add_test(tcase, directory_of_an_older_version);
    tcase_add_test(tcase, unfinished_first_start_needs_members);
    tcase_add_test(tcase, joined_is_joined);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
