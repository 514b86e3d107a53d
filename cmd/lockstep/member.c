/* `lockstep member`: adds, promotes, demotes and removes nodes. Finds the leader, waits until the change is committed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
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
    "  --json                  list: one object; `leader`, and `members` with id, address, voter, leader of each\n"
    "  --help                  show this\n"
    "\n"
    "If PEERPORT is not given, a node that answers at HOST:PORT is asked for it; otherwise it is PORT + 10000.\n"
    "A leader hands over before it is demoted or removed.\n"
    "Exit codes: 0 the change is committed; 1 refused, or not done in time; 2 wrong command line.\n";

struct member_options {
    struct seeds seeds;
    uint32_t wait_s;
    const char *words[WORDS_MAX]; /* LOCKSTEP MEMBER ... */
    int n_words;
    uint64_t id;
    bool json;
    char with_port[300]; /* the last word, with the port for nodes */
};

static void nap(void)
{
    const struct timespec t = {0, 100000000};
    (void)nanosleep(&t, NULL);
}

/* Is the node that `status` is of the leader, or does it say who is? False: `error` says what it lacks. */
static bool leader_of(const struct node_status *status, const struct address *at, struct node_status *leader,
                      struct address *address, char error[CONNECTION_ERROR_MAX])
{
    char why[CONNECTION_ERROR_MAX] = "it does not lead";

    if (strcmp(status->role, "leader") == 0) {
        *leader = *status;
        *address = *at;
        return true;
    }
    for (unsigned k = 0; k < status->n_members; k++) {
        const struct node_member *m = &status->members[k];
        if (m->id != status->leader) {
            continue;
        }
        if (node_status_fetch(&m->address, 1000, leader, why) && strcmp(leader->role, "leader") == 0) {
            *address = m->address;
            return true;
        }
        snprintf(error, CONNECTION_ERROR_MAX, "node %" PRIu64 ", which leads, at %.100s:%u: %.100s", m->id,
                 m->address.host, m->address.port, why);
        return false;
    }
    snprintf(error, CONNECTION_ERROR_MAX, "node %" PRIu64 " at %.100s:%u %s", status->id, at->host, at->port,
             status->n_members == 0 ? "belongs to no cluster yet: ask a member of the one that it is to join"
             : strcmp(status->role, "removed") == 0 ? "was removed from its cluster, and knows no leader"
                                                    : "knows no leader");
    return false;
}

/* Ask the seeds, then the members they name, for the leader. */
static bool leader_find(const struct member_options *o, struct node_status *leader, struct address *address,
                        char error[CONNECTION_ERROR_MAX])
{
    for (unsigned i = 0; i < o->seeds.n; i++) {
        struct node_status status;
        char why[CONNECTION_ERROR_MAX];
        if (!node_status_fetch(&o->seeds.at[i], 1000, &status, why)) {
            snprintf(error, CONNECTION_ERROR_MAX, "%.100s:%u: %.180s", o->seeds.at[i].host, o->seeds.at[i].port, why);
        } else if (leader_of(&status, &o->seeds.at[i], leader, address, error)) {
            return true;
        }
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

static void list_print_json(const struct node_status *status)
{
    json_t *members = json_array();
    for (unsigned i = 0; i < status->n_members; i++) {
        const struct node_member *m = &status->members[i];
        char address[ADDRESS_HOST_MAX + 16];
        snprintf(address, sizeof address, strchr(m->address.host, ':') != NULL ? "[%s]:%u" : "%s:%u", m->address.host,
                 m->address.port);
        json_array_append_new(members, json_pack("{s:I, s:s, s:b, s:b}", "id", (json_int_t)m->id, "address", address,
                                                 "voter", m->voter, "leader", m->id == status->leader));
    }
    json_t *root = json_pack("{s:I, s:b, s:o}", "leader", (json_int_t)status->leader, "change_pending",
                             status->change_pending, "members", members);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
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
    if (o->json) {
        list_print_json(&status);
        return EXIT_OK;
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
           strncmp(text, "-NOTLEADER", 10) == 0 || strstr(text, "not caught up") != NULL ||
           strstr(text, "not connected") != NULL;
}

/* "HOST:PORT" of a word that may have a third part; the length of these two. */
static size_t client_part(const char *word)
{
    const char *after = word[0] == '[' ? strchr(word, ']') : word;
    const char *first = after != NULL ? strchr(after, ':') : NULL;
    const char *second = first != NULL ? strchr(first + 1, ':') : NULL;

    return second != NULL ? (size_t)(second - word) : strlen(word);
}

/* Before a node gets an address: is it the one that answers there? False: no, a message was printed. Whether nothing
 * answers, because it is started later or is not to be reached from here, is for the operator to judge. */
static bool address_check(struct member_options *o, const struct node_status *leader)
{
    const char *word = o->words[4];
    const size_t len = client_part(word);
    struct node_status there;
    struct address address;
    char text[ADDRESS_HOST_MAX], error[CONNECTION_ERROR_MAX];

    snprintf(text, sizeof text, "%.*s", (int)len, word);
    if (strchr(text, ':') == NULL || len >= sizeof text || !option_address("the address", text, &address)) {
        return true; /* the leader says what is wrong with it */
    }
    if (!node_status_fetch(&address, 1000, &there, error)) {
        fprintf(stderr, "lockstep member: note: %s: %s: start node %" PRIu64 " there%s\n", text, error, o->id,
                strcmp(o->words[2], "add") == 0 ? ", with --join" : "");
        return true;
    }
    if (there.id != o->id) {
        fprintf(stderr, "lockstep member: %s is in use by node %" PRIu64 ", which answers there: nothing was changed\n",
                text, there.id);
        return false;
    }
    if (leader->cluster[0] != '\0' && strcmp(there.cluster, leader->cluster) != 0) {
        fprintf(
            stderr,
            "lockstep member: the node at %s belongs to another cluster: nothing was changed. Start it with an empty "
            "data directory and --join HOST:PORT of a member\n",
            text);
        return false;
    }
    if (word[len] == '\0' && there.peer_port != 0) {
        snprintf(o->with_port, sizeof o->with_port, "%.*s:%u", (int)len, word, there.peer_port);
        o->words[4] = o->with_port;
    } else if (there.peer_port != 0 && strtoul(word + len + 1, NULL, 10) != there.peer_port) {
        fprintf(stderr, "lockstep member: note: node %" PRIu64 " listens for nodes on port %u\n", o->id,
                there.peer_port);
    }
    return true;
}

/* An error's text without what is for programs. */
static const char *reason(const char *text)
{
    return strncmp(text, "-ERR ", 5) == 0 ? text + 5 : text + 1;
}

/* Once somebody has waited for a while: for what. */
static void say_why(time_t began, const char *text, char told[300])
{
    if (time(NULL) > began + 1 && strcmp(text, told) != 0) {
        fprintf(stderr, "lockstep member: waiting: %s\n", reason(text));
        snprintf(told, 300, "%.299s", text);
    }
}

static const char *action_verb(const char *action)
{
    return strcmp(action, "address") == 0 ? "change the address of" : action;
}

static int change(struct member_options *o)
{
    static const char *const transfer[] = {"LOCKSTEP", "TRANSFER"};
    const char *action = o->words[2];
    const bool leaves = strcasecmp(action, "remove") == 0 || strcasecmp(action, "demote") == 0;
    char text[300] = "!no leader is known";
    char error[CONNECTION_ERROR_MAX] = "";
    struct node_status status;
    struct address address;
    const time_t began = time(NULL), until = began + (time_t)o->wait_s;
    char told[300] = "";
    bool proposed = false, refused = false, checked = o->n_words < 5;

    for (; time(NULL) <= until; nap()) {
        say_why(began, text, told);
        if (!leader_find(o, &status, &address, error)) {
            snprintf(text, sizeof text, "!%.280s", error);
            continue;
        }
        checked = checked || address_check(o, &status);
        if (!checked) {
            return EXIT_FAILED;
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
    fprintf(stderr, "lockstep member: can't %s node %" PRIu64 ": %s\n", action_verb(action), o->id,
            text[0] == '+' ? "proposed, but not known to be committed" : reason(text));
    return EXIT_FAILED;
}

static bool action_read(struct member_options *o, int argc, char **argv)
{
    static const struct {
        const char *word;
        int argc;
        const char *wants;
    } actions[] = {{"list", 1, "nothing"}, {"add", 3, "ID HOST:PORT[:PEERPORT]"},
                   {"promote", 2, "ID"},   {"demote", 2, "ID"},
                   {"remove", 2, "ID"},    {"address", 3, "ID HOST:PORT[:PEERPORT]"}};

    o->words[0] = "LOCKSTEP";
    o->words[1] = "MEMBER";
    o->n_words = 2 + argc;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(argv[0], actions[i].word) != 0) {
            continue;
        }
        if (argc != actions[i].argc) {
            fprintf(stderr, "lockstep member: %s wants %s (lockstep member --help)\n", argv[0], actions[i].wants);
            return false;
        }
        for (int k = 0; k < argc; k++) {
            o->words[2 + k] = argv[k];
        }
        return argc == 1 || option_u64("ID", argv[1], 1, INT64_MAX, &o->id);
    }
    fprintf(stderr, "lockstep member: there is no action \"%s\": add, promote, demote, remove, address or list\n",
            argv[0]);
    return false;
}

int command_member(int argc, char **argv)
{
    struct member_options o = {.wait_s = 30};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &o.seeds},
                                        {.name = "wait", .u32 = &o.wait_s, .min = 0, .max = 86400},
                                        {.name = "json", .flag = &o.json},
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
