/* `lockstep member`: adds, promotes, demotes and removes nodes. Finds the leader, waits until the change is committed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/node_status.h"

#define WORDS_MAX 5

static const char usage_text[] =
    "Usage: lockstep member [OPTION]... ACTION\n"
    "Change who belongs to a running cluster, one node at a time.\n"
    "\n"
    "  list                           the members: id, address, voter or learner\n"
    "  add ID HOST:PORT[:PEERPORT]    a new node, as a learner; start it with lockstepd --join ... --id ID\n"
    "  promote ID                     a learner that has caught up becomes a voter\n"
    "  demote ID                      a voter becomes a learner\n"
    "  remove ID                      it leaves for good: its id is never used again\n"
    "  address ID HOST:PORT[:PEERPORT]  it moved\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask, the first that answers counts\n"
    "                          (default 127.0.0.1:7379, then :7380 and :7381)\n"
    "  --wait SECONDS          how long to try (default 30): for a leader, for a learner to catch up\n"
    "  --help                  show this\n"
    "\n"
    "A leader hands over before it is demoted or removed.\n"
    "Exit codes: 0 the change is committed; 1 refused, or not done in time; 2 wrong command line.\n";

struct member_options {
    struct seeds seeds;
    uint32_t wait_s;
    const char *words[WORDS_MAX]; /* LOCKSTEP MEMBER ... */
    int n_words;
    uint64_t id;
};

static void nap(void)
{
    const struct timespec t = {0, 100000000};
    (void)nanosleep(&t, NULL);
}

/* Ask the seeds, then the members they name, for the leader. */
static bool leader_find(const struct member_options *o, struct node_status *leader, struct address *address,
                        char error[CONNECTION_ERROR_MAX])
{
    for (unsigned i = 0; i < o->seeds.n; i++) {
        struct node_status status;
        if (!node_status_fetch(&o->seeds.at[i], 1000, &status, error)) {
            continue;
        }
        if (strcmp(status.role, "leader") == 0) {
            *leader = status;
            *address = o->seeds.at[i];
            return true;
        }
        for (unsigned k = 0; k < status.n_members; k++) {
            if (status.members[k].id == status.leader &&
                node_status_fetch(&status.members[k].address, 1000, leader, error) &&
                strcmp(leader->role, "leader") == 0) {
                *address = status.members[k].address;
                return true;
            }
        }
        snprintf(error, CONNECTION_ERROR_MAX, "no leader is known");
    }
    return false;
}

/* One command to one node; its first reply item's text in `text`, with its type in front. */
static bool command_send(const struct address *address, int argc, const char *const *argv, char text[300])
{
    char error[CONNECTION_ERROR_MAX];
    struct reply_item item;
    struct connection *connection = connection_open(address, 2000, true, error);
    if (connection == NULL) {
        snprintf(text, 300, "!%.280s", error);
        return false;
    }
    const bool ok = connection_call(connection, argc, argv, &item);
    if (ok) {
        snprintf(text, 300, "%c%.*s", item.type, item.len < 280 ? (int)item.len : 280,
                 item.text == NULL ? "" : item.text);
    } else {
        snprintf(text, 300, "!%.280s", connection_error(connection));
    }
    connection_close(connection);
    return ok && item.type != '-';
}

static int list_print(const struct member_options *o)
{
    char error[CONNECTION_ERROR_MAX] = "";
    struct node_status status;
    struct address address;

    for (unsigned i = 0; !leader_find(o, &status, &address, error); i++) {
        if (i >= o->wait_s * 10) {
            fprintf(stderr, "lockstep member: %s\n", error);
            return EXIT_FAILED;
        }
        nap();
    }
    for (unsigned i = 0; i < status.n_members; i++) {
        const struct node_member *m = &status.members[i];
        printf("%" PRIu64 " %s:%u %s%s\n", m->id, m->address.host, m->address.port, m->voter ? "voter" : "learner",
               m->id == status.leader ? ", leader" : "");
    }
    return EXIT_OK;
}

/* Does the leader's configuration show the change? */
static bool is_done(const struct member_options *o, const struct node_status *status)
{
    const char *action = o->words[2];
    const struct node_member *found = NULL;

    for (unsigned i = 0; i < status->n_members; i++) {
        found = status->members[i].id == o->id ? &status->members[i] : found;
    }
    if (status->change_pending) {
        return false;
    }
    if (strcasecmp(action, "remove") == 0) {
        return found == NULL;
    }
    return found != NULL && (strcasecmp(action, "promote") != 0 || found->voter) &&
           (strcasecmp(action, "demote") != 0 || !found->voter);
}

static bool worth_another_try(const char *text)
{
    return text[0] == '!' || strncmp(text, "-TRYAGAIN", 9) == 0 || strncmp(text, "-CLUSTERDOWN", 12) == 0 ||
           strncmp(text, "-NOTLEADER", 10) == 0 || strstr(text, "not caught up") != NULL;
}

static int change(const struct member_options *o)
{
    static const char *const transfer[] = {"LOCKSTEP", "TRANSFER"};
    const char *action = o->words[2];
    const bool leaves = strcasecmp(action, "remove") == 0 || strcasecmp(action, "demote") == 0;
    char text[300] = "!no leader is known";
    char error[CONNECTION_ERROR_MAX] = "";
    struct node_status status;
    struct address address;
    const time_t until = time(NULL) + (time_t)o->wait_s;
    bool proposed = false, refused = false;

    for (; time(NULL) <= until; nap()) {
        if (!leader_find(o, &status, &address, error)) {
            snprintf(text, sizeof text, "!%.280s", error);
            continue;
        }
        if (proposed && is_done(o, &status)) {
            printf("done: %s %" PRIu64 "\n", action, o->id);
            return EXIT_OK;
        }
        if (proposed && status.change_pending) {
            continue;
        }
        if (command_send(&address, o->n_words, o->words, text) || text[0] == '!') {
            proposed = true; /* also if no answer came: then it may have been */
        } else if (leaves && strncmp(text, "-ERR it leads", 13) == 0) {
            printf("node %" PRIu64 " leads: handing over\n", o->id);
            (void)command_send(&address, 2, transfer, text);
        } else if (!worth_another_try(text)) {
            if (!proposed || refused) {
                break;
            }
            refused = true; /* because an earlier request did it, perhaps: one more look */
        }
    }
    fprintf(stderr, "lockstep member: %s\n", text[0] == '+' ? "proposed, but not known to be committed" : text + 1);
    return EXIT_FAILED;
}

static bool action_read(struct member_options *o, int argc, char **argv)
{
    static const struct {
        const char *word;
        int argc;
    } actions[] = {{"list", 1}, {"add", 3}, {"promote", 2}, {"demote", 2}, {"remove", 2}, {"address", 3}};

    o->words[0] = "LOCKSTEP";
    o->words[1] = "MEMBER";
    o->n_words = 2 + argc;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0] && argc > 0; i++) {
        if (strcmp(argv[0], actions[i].word) == 0 && argc == actions[i].argc) {
            for (int k = 0; k < argc; k++) {
                o->words[2 + k] = argv[k];
            }
            return argc == 1 || option_u64("ID", argv[1], 1, INT64_MAX, &o->id);
        }
    }
    fprintf(stderr, "lockstep member: not an action with its arguments (lockstep member --help lists them)\n");
    return false;
}

int command_member(int argc, char **argv)
{
    struct member_options o = {.wait_s = 30};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &o.seeds},
                                        {.name = "wait", .u32 = &o.wait_s, .min = 0, .max = 86400},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "ACTION", .operands_min = 1, .operands_max = WORDS_MAX - 2};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    if (!action_read(&o, argc - optind, argv + optind)) {
        return EXIT_USAGE;
    }
    return strcmp(o.words[2], "list") == 0 ? list_print(&o) : change(&o);
}
