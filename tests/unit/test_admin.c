#include "tests/unit/fake_node.h"

static struct client a;

static void setup(void)
{
    fake_setup();
    client_open(&a, 1);
}

static void teardown(void)
{
    client_close(&a);
    fake_teardown();
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The text of a bulk reply. */
static char *bulk_of(const char *line)
{
    (void)client_send(&a, line);
    const char *reply = client_output(&a);
    ck_assert_int_eq(reply[0], '$');
    char *text = strdup(strstr(reply, "\r\n") + 2);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(strlen(text), strtoul(reply + 1, NULL, 10) + 2);
    text[strlen(text) - 2] = '\0';
    return text;
}

/* --- INFO --- */

START_TEST(info_lines_are_fields_with_names_of_their_own)
{
    char *text = bulk_of("INFO");
    char *names[512];
    unsigned n = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        size_t len = strlen(line);
        if (len == 0) {
            continue;
        }
        ck_assert_int_eq(line[len - 1], '\r');
        line[len - 1] = '\0';
        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        char *colon = strchr(line, ':');
        ck_assert_msg(colon != NULL, "no field: %s", line);
        *colon = '\0';
        for (unsigned i = 0; i < n; i++) {
            ck_assert_msg(strcmp(names[i], line) != 0, "twice: %s", line);
        }
        ck_assert_uint_lt(n, 512);
        names[n++] = line;
    }
    ck_assert_uint_gt(n, 80);
    free(text);
}
END_TEST

START_TEST(info_has_what_clients_look_for)
{
    static const char *const fields[] = {
        "# Server\r\nredis_version:7.0.15\r\n",
        "\r\nredis_mode:standalone\r\n",
        "\r\ntcp_port:7379\r\n",
        "\r\nconnected_clients:1\r\n",
        "\r\nused_memory:",
        "\r\nloading:0\r\n",
        "\r\nrole:master\r\nconnected_slaves:2\r\n",
        "\r\nslave0:ip=10.0.0.2,port=7372,state=online,",
        "\r\ncluster_enabled:0\r\n",
        "\r\nraft_role:leader\r\nterm:4\r\n",
        "\r\nleader:1\r\nleader_address:10.0.0.1:7371\r\n",
        "\r\npeer_2:address=10.0.0.2:7372,voter=1,connected=1,match=40,lag=60,",
    };
    fake_match[1] = 40;
    char *text = bulk_of("INFO");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        ck_assert_msg(strstr(text, fields[i]) != NULL, "missing: %s", fields[i]);
    }
    free(text);
}
END_TEST

START_TEST(info_of_a_follower_names_the_leader)
{
    fake_leader = 3;
    char *text = bulk_of("INFO replication");
    ck_assert_ptr_nonnull(
        strstr(text, "role:slave\r\nmaster_host:10.0.0.3\r\nmaster_port:7373\r\nmaster_link_status:up\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "slave_read_only:0\r\n"));
    free(text);
}
END_TEST

START_TEST(info_without_a_leader_says_so)
{
    fake_leader = 0;
    char *text = bulk_of("INFO replication lockstep");
    ck_assert_ptr_nonnull(strstr(text, "master_link_status:down\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "leader:0\r\nleader_address:\r\n"));
    free(text);
}
END_TEST

START_TEST(info_gives_the_sections_asked_for)
{
    char *text = bulk_of("INFO keyspace CLUSTER nosuch");
    ck_assert_str_eq(text, "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n");
    free(text);
    text = bulk_of("INFO nosuch");
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

/* --- CONFIG --- */

START_TEST(config_get_takes_patterns)
{
    client_assert(&a, "CONFIG GET maxmem*",
                  "*4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n");
    client_assert(&a, "CONFIG GET nosuch", "*0\r\n");
    client_assert(&a, "CONFIG GET TIMEOUT", "*2\r\n$7\r\nTIMEOUT\r\n$1\r\n0\r\n");
}
END_TEST

START_TEST(config_set_changes_and_tells_the_node)
{
    client_assert(&a, "CONFIG SET maxmemory 1mb timeout 5", "+OK\r\n");
    ck_assert_uint_eq(fake_config.maxmemory, 1048576);
    ck_assert_uint_eq(fake_config.timeout_s, 5);
    ck_assert_uint_eq(fake_config_changes, 1);
}
END_TEST

START_TEST(config_set_is_all_or_nothing)
{
    client_assert(&a, "CONFIG SET maxmemory 1mb timeout -1",
                  "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and "
                  "31536000 inclusive\r\n");
    client_assert(&a, "CONFIG SET maxmemory 1mb port 1",
                  "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config\r\n");
    client_assert(&a, "CONFIG SET maxmemory 1mb nosuch 1",
                  "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n");
    client_assert(&a, "CONFIG SET maxmemory 1mb maxmemory 2mb",
                  "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter\r\n");
    ck_assert_uint_eq(fake_config.maxmemory, 0);
    ck_assert_uint_eq(fake_config_changes, 0);
}
END_TEST

/* --- COMMAND --- */

START_TEST(commands_know_their_keys)
{
    client_assert(&a, "COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    client_assert(&a, "COMMAND GETKEYS DEL a b c", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    client_assert(&a, "COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n");
    client_assert(&a, "COMMAND GETKEYS nosuch x", "-ERR Invalid command specified\r\n");
    client_assert(&a, "COMMAND GETKEYS SET a", "-ERR Invalid number of arguments specified for command\r\n");
    client_assert(
        &a, "COMMAND GETKEYSANDFLAGS RENAME a b",
        "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update\r\n");
}
END_TEST

START_TEST(command_info_has_redis_shape)
{
    client_assert(
        &a, "COMMAND INFO get nosuch",
        "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n"
        "+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n"
        "$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n"
        "$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n"
        "*-1\r\n");
}
END_TEST

START_TEST(every_listed_command_is_found_and_described)
{
    const struct command_index *index = fake_sessions->commands;
    const struct command_entry *entry;
    unsigned n = 0;
    for (unsigned i = 0; (entry = command_index_at(index, i)) != NULL; i++) {
        char upper[64];
        size_t len = 0;
        for (; entry->name[len] != '\0'; len++) {
            upper[len] =
                entry->name[len] >= 'a' && entry->name[len] <= 'z' ? (char)(entry->name[len] - 32) : entry->name[len];
        }
        ck_assert_ptr_eq(command_index_find(index, entry->name, len), entry);
        ck_assert_ptr_eq(command_index_find(index, upper, len), entry);
        ck_assert(entry->local != NULL || entry->store != NULL);
        ck_assert_int_ne(entry->arity, 0);
        n += command_hidden(entry) ? 0 : 1;
    }
    ck_assert_ptr_null(command_index_find(index, "", 0));
    char count[32];
    (void)snprintf(count, sizeof count, ":%u\r\n", n);
    client_assert(&a, "COMMAND COUNT", count);
}
END_TEST

START_TEST(internal_commands_are_not_listed)
{
    client_assert(&a, "COMMAND INFO lockstep.revision", "*1\r\n*-1\r\n");
    client_assert(&a, "COMMAND LIST FILTERBY PATTERN lockstep*", "*1\r\n$8\r\nlockstep\r\n");
}
END_TEST

START_TEST(help_lists_subcommands)
{
    (void)client_send(&a, "CLUSTER HELP");
    const char *reply = client_output(&a);
    ck_assert(starts_with(reply, "*15\r\n+CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n"));
    ck_assert_ptr_nonnull(strstr(reply, "\r\n+KEYSLOT <key>\r\n"));
}
END_TEST

START_TEST(unknown_subcommand_points_to_help)
{
    client_assert(&a, "CLUSTER nosuch", "-ERR unknown subcommand 'nosuch'. Try CLUSTER HELP.\r\n");
    client_assert(&a, "CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command\r\n");
    client_assert(&a, "CLUSTER", "-ERR wrong number of arguments for 'cluster' command\r\n");
}
END_TEST

START_TEST(unknown_command_shows_128_bytes_of_arguments)
{
    char line[600];
    char expected[400];
    char hundred[101];
    memset(hundred, 'x', 100);
    hundred[100] = '\0';
    (void)snprintf(line, sizeof line, "nosuch %s yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy z", hundred);
    (void)snprintf(expected, sizeof expected,
                   "-ERR unknown command 'nosuch', with args beginning with: '%s' 'yyyyyyyyyyyyyyyyyyyyyyyyy' \r\n",
                   hundred);
    client_assert(&a, line, expected);
}
END_TEST

/* --- CLUSTER, ROLE --- */

#define NAME(id) "000000000000000" id "abcd0102030405060708090a"

START_TEST(cluster_slots_name_the_leader_first)
{
    fake_leader = 2;
    client_assert(&a, "CLUSTER SLOTS",
                  "*1\r\n*5\r\n:0\r\n:16383\r\n"
                  "*4\r\n$8\r\n10.0.0.2\r\n:7372\r\n$40\r\n" NAME(
                      "2") "\r\n*0\r\n"
                           "*4\r\n$8\r\n10.0.0.1\r\n:7371\r\n$40\r\n" NAME(
                               "1") "\r\n*0\r\n"
                                    "*4\r\n$8\r\n10.0.0.3\r\n:7373\r\n$40\r\n" NAME("3") "\r\n*0\r\n");
}
END_TEST

START_TEST(cluster_slots_are_empty_without_a_leader)
{
    fake_leader = 0;
    client_assert(&a, "CLUSTER SLOTS", "*0\r\n");
}
END_TEST

START_TEST(cluster_nodes_lists_all)
{
    fake_leader = 2;
    char *text = bulk_of("CLUSTER NODES");
    ck_assert_str_eq(
        text, NAME("1") " 10.0.0.1:7371@17371 myself,slave " NAME("2") " 0 0 4 connected\n" NAME(
                  "2") " 10.0.0.2:7372@17372 master - 0 0 4 connected 0-16383\n" NAME("3") " 10.0.0.3:7373@17373 "
                                                                                           "slave " NAME("2") " 0 0 4 "
                                                                                                              "connecte"
                                                                                                              "d\n");
    free(text);
    client_assert(&a, "CLUSTER MYID", "$40\r\n" NAME("1") "\r\n");
}
END_TEST

START_TEST(cluster_info_fails_without_a_leader)
{
    fake_leader = 0;
    char *text = bulk_of("CLUSTER INFO");
    ck_assert_ptr_nonnull(strstr(text, "cluster_state:fail\r\n"));
    free(text);
}
END_TEST

START_TEST(role_of_leader_and_follower)
{
    fake_match[1] = 40;
    fake_match[2] = 100;
    client_assert(&a, "ROLE",
                  "*3\r\n$6\r\nmaster\r\n:100\r\n*2\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n7372\r\n$2\r\n40\r\n"
                  "*3\r\n$8\r\n10.0.0.3\r\n$4\r\n7373\r\n$3\r\n100\r\n");
    fake_leader = 3;
    client_assert(&a, "ROLE", "*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.3\r\n:7373\r\n$9\r\nconnected\r\n:99\r\n");
    fake_leader = 0;
    client_assert(&a, "ROLE", "*5\r\n$5\r\nslave\r\n$0\r\n\r\n:0\r\n$7\r\nconnect\r\n:-1\r\n");
}
END_TEST

/* --- The rest --- */

START_TEST(status_is_one_json_object)
{
    fake_match[1] = 40;
    char *text = bulk_of("LOCKSTEP STATUS");
    ck_assert(starts_with(text, "{\"id\":1,\"role\":\"leader\",\"term\":4,\"leader\":1,"));
    ck_assert_ptr_nonnull(strstr(text, "\"commit\":100,\"applied\":99,\"last\":100,\"pid\":"));
    ck_assert_ptr_nonnull(
        strstr(text, "{\"id\":2,\"address\":\"10.0.0.2:7372\",\"peer_address\":\"10.0.0.2:17372\",\"voter\":true,"
                     "\"connected\":true,\"match\":40,\"lag\":60,"));
    ck_assert_str_eq(text + strlen(text) - 3, "}]}");
    free(text);
}
END_TEST

START_TEST(status_and_info_say_who_reads_and_how)
{
    char *text = bulk_of("LOCKSTEP STATUS");
    ck_assert_ptr_nonnull(
        strstr(text, ",\"local_reads\":\"new-term\",\"local_left_us\":0,\"exposed\":98,\"transfers\":2,"));
    ck_assert_ptr_nonnull(strstr(text, ",\"reads\":{\"local\":11,\"waited\":12,\"confirmed\":0,\"riding\":0,"
                                       "\"session\":13,\"stale\":14,\"too_stale\":15}"));
    ck_assert_ptr_nonnull(strstr(text, ",\"grant_left_us\":500}"));
    free(text);
    text = bulk_of("INFO lockstep");
    ck_assert_ptr_nonnull(strstr(text, "\r\nlocal_reads:0\r\nlocal_reads_off:new-term\r\nlocal_reads_left_us:0\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nexposed:98\r\ntransfers:2\r\ntransfer_to:0\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nreads_local:11\r\nreads_waited:12\r\nreads_session:13\r\n"
                                       "reads_stale:14\r\nreads_too_stale:15\r\n"));
    ck_assert_ptr_nonnull(strstr(text, ",grant_left_us=500,"));
    free(text);
    fake_local_reads = "none";
    text = bulk_of("LOCKSTEP STATUS");
    ck_assert_ptr_nonnull(strstr(text, ",\"local_reads\":\"yes\",\"local_left_us\":0,"));
    free(text);
}
END_TEST

START_TEST(debug_sleep_must_be_enabled)
{
    (void)client_send(&a, "DEBUG SLEEP 0");
    ck_assert(starts_with(client_output(&a), "-ERR DEBUG command not allowed."));
    fake_config.enable_debug_command = true;
    client_assert(&a, "DEBUG SLEEP 0", "+OK\r\n");
    client_assert(&a, "DEBUG SLEEP -1", "-ERR value is not a valid float\r\n");
    client_assert(&a, "DEBUG SLEEP 1e9", "-ERR value is not a valid float\r\n");
}
END_TEST

START_TEST(client_names_are_checked)
{
    client_assert(&a, "CLIENT GETNAME", "$-1\r\n");
    client_assert(&a, "CLIENT SETNAME \x7f",
                  "-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
    client_assert(&a, "CLIENT SETNAME joe", "+OK\r\n");
    client_assert(&a, "CLIENT GETNAME", "$3\r\njoe\r\n");
    client_assert(&a, "CLIENT SETNAME ''", "+OK\r\n");
    client_assert(&a, "CLIENT GETNAME", "$-1\r\n");
}
END_TEST

START_TEST(client_list_shows_settings)
{
    client_assert(&a, "CLIENT SETINFO LIB-NAME lib", "+OK\r\n");
    client_assert(&a, "CLIENT SETINFO lib-ver 1.2", "+OK\r\n");
    client_assert(&a, "CLIENT SETINFO color red", "-ERR Unrecognized option 'color'\r\n");
    char *text = bulk_of("CLIENT LIST");
    ck_assert(starts_with(text, "id=1 addr=127.0.0.1:1001 laddr=127.0.0.1:7379 fd=8 name= age="));
    ck_assert_ptr_nonnull(strstr(text, " cmd=client|list user=default redir=-1 resp=2 "));
    ck_assert_ptr_nonnull(strstr(text, " lib-name=lib lib-ver=1.2\n"));
    free(text);
}
END_TEST

START_TEST(hello_refuses_before_it_changes_anything)
{
    client_assert(&a, "HELLO 3 SETNAME joe NOSUCH", "-ERR Syntax error in HELLO option 'NOSUCH'\r\n");
    client_assert(&a, "CLIENT GETNAME", "$-1\r\n");
    client_assert(&a, "HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    client_assert(&a, "HELLO 3 AUTH joe x", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    (void)client_send(&a, "HELLO 3 AUTH default x SETNAME joe");
    ck_assert_int_eq(client_output(&a)[0], '%');
    client_assert(&a, "CLIENT GETNAME", "$3\r\njoe\r\n");
}
END_TEST

START_TEST(select_knows_one_database)
{
    client_assert(&a, "SELECT 0", "+OK\r\n");
    client_assert(&a, "SELECT 1", "-ERR DB index is out of range\r\n");
    client_assert(&a, "SELECT 99999999999", "-ERR value is not an integer or out of range\r\n");
    client_assert(&a, "SELECT +0", "-ERR value is not an integer or out of range\r\n");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        info_lines_are_fields_with_names_of_their_own,
        info_has_what_clients_look_for,
        info_of_a_follower_names_the_leader,
        info_without_a_leader_says_so,
        info_gives_the_sections_asked_for,
        config_get_takes_patterns,
        config_set_changes_and_tells_the_node,
        config_set_is_all_or_nothing,
        commands_know_their_keys,
        command_info_has_redis_shape,
        every_listed_command_is_found_and_described,
        internal_commands_are_not_listed,
        help_lists_subcommands,
        unknown_subcommand_points_to_help,
        unknown_command_shows_128_bytes_of_arguments,
        cluster_slots_name_the_leader_first,
        cluster_slots_are_empty_without_a_leader,
        cluster_nodes_lists_all,
        cluster_info_fails_without_a_leader,
        role_of_leader_and_follower,
        status_is_one_json_object,
        status_and_info_say_who_reads_and_how,
        debug_sleep_must_be_enabled,
        client_names_are_checked,
        client_list_shows_settings,
        hello_refuses_before_it_changes_anything,
        select_knows_one_database,
    };
    Suite *suite = suite_create("admin");
    TCase *tcase = tcase_create("admin");
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
