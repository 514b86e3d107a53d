/* `lockstep upgrade`: raises the cluster's feature level once all nodes run a version that understands it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/lockstep/cluster_view.h"
#include "cmd/lockstep/command.h"

#define TIMEOUT_MS 2000
#define TEXT_MAX 300

static const char usage_text[] =
    "Usage: lockstep upgrade [LEVEL] [OPTION]...\n"
    "Switch on what newer versions bring: raise the cluster's feature level to LEVEL, or to the highest that the "
    "leader\n"
    "understands. To be called when every node runs the newer version; refused, naming the node, if one does not. A\n"
    "level is never lowered: older versions then refuse to start.\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask, the first that answers counts\n"
    "                          (default 127.0.0.1:7379, then :7380 and :7381)\n"
    "  --wait SECONDS          how long to try (default 30)\n"
    "  --help                  show this\n"
    "\n"
    "Exit codes: 0 the level is in force; 1 refused, or not done in time; 2 wrong command line.\n";

struct upgrade {
    struct seeds seeds;
    uint32_t wait_s;
    uint64_t level; /* 0: the highest that the leader understands */
    uint64_t from;  /* when this began; 0: not known yet */
    char text[TEXT_MAX];
};

/* One LOCKSTEP UPGRADE. False: refused or not answered, `text` says why, with the reply's type in front. */
static bool ask(struct upgrade *u, const struct address *leader)
{
    char level[24], error[CONNECTION_ERROR_MAX] = "";
    const char *const argv[] = {"LOCKSTEP", "UPGRADE", level};
    struct reply_item item;
    struct connection *connection = connection_open(leader, TIMEOUT_MS, true, error);

    snprintf(level, sizeof level, "%" PRIu64, u->level);
    if (connection == NULL) {
        snprintf(u->text, TEXT_MAX, "!%.280s", error);
        return false;
    }
    const bool answered = connection_call(connection, 3, argv, &item);
    if (answered) {
        snprintf(u->text, TEXT_MAX, "%c%.*s", item.type, item.len < 280 ? (int)item.len : 280,
                 item.text == NULL ? "" : item.text);
    } else {
        snprintf(u->text, TEXT_MAX, "!%.280s", connection_error(connection));
    }
    connection_close(connection);
    return answered && item.type != '-';
}

static bool worth_another_try(const char *text)
{
    return text[0] == '!' || strncmp(text, "-TRYAGAIN", 9) == 0 || strncmp(text, "-CLUSTERDOWN", 12) == 0 ||
           strncmp(text, "-NOTLEADER", 10) == 0;
}

/* One look at the cluster, and one step. True: there is nothing more to do, `*code` is set. */
static bool step(struct upgrade *u, const struct cluster_view *view, int *code)
{
    if (view->leader == NULL) {
        snprintf(u->text, TEXT_MAX, "!no leader is known");
        return false;
    }
    const struct node_status *leader = &view->leader->status;
    if (leader->feature_level == 0) {
        snprintf(u->text, TEXT_MAX, "-ERR the leader runs a version that knows no feature levels");
        *code = EXIT_FAILED;
        return true;
    }
    u->from = u->from != 0 ? u->from : leader->feature_level;
    u->level = u->level != 0 ? u->level : leader->feature_level_max;
    if (leader->feature_level == u->level && !leader->change_pending) {
        if (u->from == u->level) {
            printf("feature level %" PRIu64 " already; the leader understands %" PRIu64 "\n", u->level,
                   leader->feature_level_max);
        } else {
            printf("feature level %" PRIu64 ", was %" PRIu64 "\n", u->level, u->from);
        }
        *code = EXIT_OK;
        return true;
    }
    *code = EXIT_FAILED;
    return !leader->change_pending && !ask(u, &view->leader->member.address) && !worth_another_try(u->text);
}

static int run(struct upgrade *u)
{
    const time_t until = time(NULL) + (time_t)u->wait_s;
    const struct timespec nap = {0, 100000000};
    char error[CONNECTION_ERROR_MAX] = "";
    int code = EXIT_FAILED;
    bool done = false;

    do {
        struct cluster_view view;
        if (cluster_view_get(&view, &u->seeds, TIMEOUT_MS, error)) {
            done = step(u, &view, &code);
            cluster_view_free(&view);
        } else {
            snprintf(u->text, TEXT_MAX, "!%.280s", error);
        }
        if (!done) {
            (void)nanosleep(&nap, NULL);
        }
    } while (!done && time(NULL) <= until);
    if (!done || code != EXIT_OK) {
        fprintf(stderr, "lockstep upgrade: %s\n",
                u->text[0] == '+' ? "proposed, but not known to be committed" : u->text + 1);
        return EXIT_FAILED;
    }
    return code;
}

int command_upgrade(int argc, char **argv)
{
    struct upgrade u = {.wait_s = 30};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &u.seeds},
                                        {.name = "wait", .u32 = &u.wait_s, .min = 0, .max = 86400},
                                        {.name = NULL}};
    const struct command_line line = {.usage = usage_text, .rules = rules, .operands = "LEVEL", .operands_max = 1};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    if (optind < argc && !option_u64("LEVEL", argv[optind], 1, UINT32_MAX, &u.level)) {
        return EXIT_USAGE;
    }
    return run(&u);
}
