/* Configuration entries: what is encoded is understood, and nothing else is. */
#include "consensus/configuration.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

#define SERVERS 3u

struct sample {
    uint8_t *bytes;
    size_t len;
};

static const struct configuration_settings settings = {300, 30, 10000, CONFIGURATION_FEATURE_LEVEL, 17};

static struct sample encode(unsigned n)
{
    struct replica_server servers[REPLICA_SERVERS_MAX] = {0};
    struct sample s = {0};
    void *data = NULL;

    for (unsigned i = 0; i < n; i++) {
        servers[i].id = 5 + i;
        servers[i].voter = i % 2 == 0;
        (void)snprintf(servers[i].address, sizeof servers[i].address, "host-%u:1737%u,host-%u:737%u", i, i, i, i);
    }
    ck_assert_int_eq(replica_configuration_encode(servers, n, &settings, &data, &s.len), REPLICA_OK);
    s.bytes = data;
    return s;
}

static bool understood(const uint8_t *bytes, size_t len, struct configuration_settings *out)
{
    /* An exact copy: reading past its end is seen by sanitizers. */
    uint8_t *copy = malloc(len > 0 ? len : 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, len);
    const bool ok = configuration_check(copy, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, out);
    free(copy);
    return ok;
}

static bool refused(const struct sample *s)
{
    struct configuration_settings out;

    return !understood(s->bytes, s->len, &out);
}

START_TEST(settings_come_back_as_they_went_in)
{
    for (unsigned n = 1; n <= REPLICA_SERVERS_MAX; n++) {
        struct sample s = encode(n);
        struct configuration_settings out = {0};

        ck_assert(understood(s.bytes, s.len, &out));
        ck_assert_uint_eq(out.election_timeout_ms, settings.election_timeout_ms);
        ck_assert_uint_eq(out.heartbeat_ms, settings.heartbeat_ms);
        ck_assert_uint_eq(out.rho_ppm, settings.rho_ppm);
        ck_assert_uint_eq(out.feature_level, settings.feature_level);
        ck_assert_uint_eq(out.next_id, settings.next_id);
        free(s.bytes);
    }
}
END_TEST

START_TEST(servers_come_back_from_the_core_in_order)
{
    struct sample s = encode(SERVERS);
    const struct raft_buffer buf = {s.bytes, s.len};
    struct raft_configuration conf;

    ck_assert_int_eq(raft_configuration_decode(&buf, &conf), 0);
    ck_assert_uint_eq(conf.n, SERVERS);
    for (unsigned i = 0; i < SERVERS; i++) {
        ck_assert_uint_eq(conf.servers[i].id, 5 + i);
        ck_assert_int_eq(conf.servers[i].role, i % 2 == 0 ? RAFT_VOTER : RAFT_STANDBY);
    }
    ck_assert_str_eq(conf.servers[2].address, "host-2:17372,host-2:7372");
    raft_configuration_close(&conf);
    free(s.bytes);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    struct sample s = encode(SERVERS);
    struct configuration_settings out;

    for (size_t len = 0; len < s.len; len++) {
        ck_assert_msg(!understood(s.bytes, len, &out), "%zu of %zu bytes", len, s.len);
    }
    free(s.bytes);
}
END_TEST

START_TEST(bytes_behind_the_end_are_refused)
{
    struct sample s = encode(SERVERS);

    s.bytes = realloc(s.bytes, s.len + 8);
    ck_assert_ptr_nonnull(s.bytes);
    memset(s.bytes + s.len, 0, 8);
    for (size_t more = 1; more <= 8; more++) {
        const struct sample longer = {s.bytes, s.len + more};
        ck_assert(refused(&longer));
    }
    free(s.bytes);
}
END_TEST

/* Change one byte, expect a refusal, change it back. */
static void expect_refused_with(struct sample *s, size_t at, uint8_t value)
{
    const uint8_t before = s->bytes[at];

    ck_assert_uint_lt(at, s->len);
    ck_assert_uint_ne(before, value);
    s->bytes[at] = value;
    ck_assert_msg(refused(s), "byte %zu as %u", at, value);
    s->bytes[at] = before;
    ck_assert(!refused(s));
}

START_TEST(malformed_fields_are_refused)
{
    struct sample s = encode(SERVERS);
    const size_t tail = s.len - CONFIGURATION_SETTINGS_BYTES;
    const size_t first_end = 1 + 8 + 8 + strlen("host-0:17370,host-0:7370");

    expect_refused_with(&s, 0, 2);             /* the core's format */
    expect_refused_with(&s, 1, 0);             /* no servers */
    expect_refused_with(&s, 1, SERVERS - 1);   /* fewer than there are */
    expect_refused_with(&s, 1, SERVERS + 1);   /* more than there are */
    expect_refused_with(&s, 8, 0x80);          /* a number that would overflow */
    expect_refused_with(&s, 9, 0);             /* id 0 */
    expect_refused_with(&s, first_end + 1, 3); /* a role that does not exist */
    expect_refused_with(&s, tail, 's');        /* magic */
    expect_refused_with(&s, tail + 8, 2);      /* version of the settings */
    expect_refused_with(&s, tail + 28, 1);     /* reserved */
    free(s.bytes);
}
END_TEST

START_TEST(more_servers_than_allowed_are_refused)
{
    struct sample s = encode(SERVERS);
    struct configuration_settings out;

    ck_assert(configuration_check(s.bytes, s.len, SERVERS, REPLICA_ADDRESS_MAX, &out));
    ck_assert(!configuration_check(s.bytes, s.len, SERVERS - 1, REPLICA_ADDRESS_MAX, &out));
    ck_assert(!configuration_check(s.bytes, s.len, SERVERS, 10, &out)); /* the addresses are longer */
    free(s.bytes);
}
END_TEST

START_TEST(an_id_or_address_given_twice_is_refused)
{
    struct replica_server servers[2] = {{.id = 1, .address = "a:1,a:2"}, {.id = 1, .address = "b:1,b:2"}};
    void *data;
    size_t len;

    ck_assert_int_eq(replica_configuration_encode(servers, 2, &settings, &data, &len), REPLICA_CONFIG);
    servers[1] = (struct replica_server){.id = 2, .address = "a:1,a:2"};
    ck_assert_int_eq(replica_configuration_encode(servers, 2, &settings, &data, &len), REPLICA_CONFIG);
}
END_TEST

/* Tools write configurations without the core: byte for byte what the core would write. */
START_TEST(our_encoding_is_the_cores)
{
    for (unsigned n = 1; n <= REPLICA_SERVERS_MAX; n++) {
        struct sample s = encode(n);
        struct configuration_server servers[REPLICA_SERVERS_MAX];
        uint8_t *own;

        ck_assert_uint_eq(configuration_servers(s.bytes, servers, REPLICA_SERVERS_MAX), n);
        for (unsigned i = 0; i < n; i++) {
            ck_assert_uint_eq(servers[i].id, 5 + i);
            ck_assert(servers[i].voter == (i % 2 == 0));
        }
        ck_assert_uint_eq(configuration_bytes(servers, n), s.len);
        own = malloc(s.len);
        ck_assert_ptr_nonnull(own);
        configuration_encode(servers, n, &settings, own);
        ck_assert_mem_eq(own, s.bytes, s.len);
        free(own);
        free(s.bytes);
    }
}
END_TEST

START_TEST(our_encoding_refuses_what_the_core_refuses)
{
    struct configuration_server servers[2] = {{1, "a:1,a:2", true}, {1, "b:1,b:2", true}};

    ck_assert_uint_eq(configuration_bytes(servers, 2), 0);
    servers[1] = (struct configuration_server){2, "a:1,a:2", true};
    ck_assert_uint_eq(configuration_bytes(servers, 2), 0);
    servers[1] = (struct configuration_server){0, "b:1,b:2", true};
    ck_assert_uint_eq(configuration_bytes(servers, 2), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("configuration");
    TCase *tcase = tcase_create("entries");

    tcase_add_test(tcase, settings_come_back_as_they_went_in);
    tcase_add_test(tcase, servers_come_back_from_the_core_in_order);
    tcase_add_test(tcase, every_truncation_is_refused);
    tcase_add_test(tcase, bytes_behind_the_end_are_refused);
    tcase_add_test(tcase, malformed_fields_are_refused);
    tcase_add_test(tcase, more_servers_than_allowed_are_refused);
    tcase_add_test(tcase, an_id_or_address_given_twice_is_refused);
    tcase_add_test(tcase, our_encoding_is_the_cores);
    tcase_add_test(tcase, our_encoding_refuses_what_the_core_refuses);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
