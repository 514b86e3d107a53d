/* `lockstep transfer [NODE]`: finds the leader and has it hand leadership over. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/node_status.h"

#define TIMEOUT_MS_DEFAULT 5000

static const char usage_text[] =
    "Usage: lockstep transfer [NODE] [OPTION]...\n"
    "Hand leadership to node NODE, or to the one that is furthest. Commands under way are answered, and those that "
    "come\n"
    "meanwhile wait for the new leader.\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask who leads, the first that answers counts\n"
    "                          (default 127.0.0.1:7379, then :7380 and :7381)\n"
    "  --timeout-ms T          for connecting and for each answer (default 5000)\n"
    "  --help                  show this\n"
    "\n"
    "Prints who leads now. Exit codes: 0 done; 1 failed, and the message says why; 2 wrong command line.\n";

struct transfer_options {
    struct seeds seeds;
    uint32_t timeout_ms;
    const char *node; /* NULL: any */
};

/* Where the leader takes clients, as the first node that answers sees it. False: the message is printed. */
static bool leader_find(const struct transfer_options *options, struct address *leader)
{
    struct node_status *status = malloc(sizeof(*status));
    char error[CONNECTION_ERROR_MAX];
    bool found = false;
    bool answered = false;
    for (unsigned i = 0; status != NULL && !answered && i < options->seeds.n; i++) {
        answered = node_status_fetch(&options->seeds.at[i], options->timeout_ms, status, error);
        if (!answered) {
            fprintf(stderr, "lockstep: %s:%u: %s\n", options->seeds.at[i].host, options->seeds.at[i].port, error);
        }
    }
    for (unsigned i = 0; answered && i < status->n_members; i++) {
        if (status->members[i].id == status->leader && status->leader != 0) {
            *leader = status->members[i].address;
            found = true;
        }
    }
    if (answered && !found) {
        fprintf(stderr, "lockstep: node %" PRIu64 " knows no leader\n", status->id);
    }
    free(status);
    return found;
}

static int transfer_run(const struct transfer_options *options)
{
    const char *words[] = {"LOCKSTEP", "TRANSFER", options->node};
    char error[CONNECTION_ERROR_MAX];
    struct address leader;
    struct reply_item item;
    if (!leader_find(options, &leader)) {
        return EXIT_FAILED;
    }
    struct connection *connection = connection_open(&leader, options->timeout_ms, true, error);
    if (connection == NULL) {
        fprintf(stderr, "lockstep: %s:%u: %s\n", leader.host, leader.port, error);
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    if (!connection_call(connection, options->node != NULL ? 3 : 2, words, &item)) {
        fprintf(stderr, "lockstep: %s:%u: %s\n", leader.host, leader.port, connection_error(connection));
    } else if (reply_is_error(&item)) {
        fprintf(stderr, "lockstep: %.*s\n", (int)item.len, item.text);
    } else {
        printf("%.*s\n", (int)item.len, item.text);
        code = EXIT_OK;
    }
    connection_close(connection);
    return code;
}

int command_transfer(int argc, char **argv)
{
    struct transfer_options options = {.timeout_ms = TIMEOUT_MS_DEFAULT};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &options.seeds},
                                        {.name = "timeout-ms", .u32 = &options.timeout_ms, .min = 1, .max = 3600000},
                                        {.name = NULL}};
    const struct command_line line = {.usage = usage_text, .rules = rules, .operands = "NODE", .operands_max = 1};
    const int code = options_read(&line, argc, argv);
    uint64_t id;

    if (code != OPTIONS_OK) {
        return code;
    }
    if (optind < argc) {
        options.node = argv[optind];
        if (!option_u64("NODE", options.node, 1, INT64_MAX, &id)) {
            return EXIT_USAGE;
        }
    }
    return transfer_run(&options);
}
