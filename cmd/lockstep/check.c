/* `lockstep check`: do all replicas hold the same content? Digests are compared at one and the same log entry, while
 * the cluster serves. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/lockstep/cluster_view.h"
#include "cmd/lockstep/command.h"

#define TIMEOUT_MS_DEFAULT 2000
#define ATTEMPTS 12u
#define DIGEST_MAX 20

static const char usage_text[] =
    "Usage: lockstep check [OPTION]...\n"
    "Compare the content of all replicas: the digest of keys, values, deadlines, revisions and time, at one and the "
    "same\n"
    "entry of the log, while the cluster serves.\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask for the members, the first that answers counts (default 127.0.0.1:7379, "
    "then\n"
    "                          :7380 and :7381)\n"
    "  --timeout-ms T          for connecting, and for a replica to reach the entry (default 2000)\n"
    "  --json                  one object: `equal`, `complete`, `index`, and `nodes` with id, address, digest, error\n"
    "  --help                  show this\n"
    "\n"
    "Exit codes: 0 all are equal; 1 a replica differs, or no comparison was possible; 2 wrong command line; 3 those "
    "that\n"
    "answered are equal, but not all did.\n";

enum outcome { OUTCOME_DOWN, OUTCOME_DIGEST, OUTCOME_MISSED /* it was past that entry, or did not reach it */ };

struct replica_check {
    const struct cluster_node *node;
    struct connection *connection;
    enum outcome outcome;
    char digest[DIGEST_MAX];
    char error[CONNECTION_ERROR_MAX];
};

struct check {
    struct seeds seeds;
    uint32_t timeout_ms;
    bool json;
    struct cluster_view view;
    struct replica_check *replicas;
    uint64_t index;
};

static void nap(unsigned ms)
{
    const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* --- One attempt -------------------------------------------------------------------------------------------------- */

/* An entry that every replica is about to apply: the newest if nothing is written, else one a little ahead. */
static uint64_t pick_index(const struct check *c, const struct cluster_node *leader, unsigned attempt)
{
    struct node_status *now = malloc(sizeof *now);
    char error[CONNECTION_ERROR_MAX];
    uint64_t index = leader->status.last;
    nap(50);
    if (now != NULL && node_status_fetch(&leader->member.address, c->timeout_ms, now, error)) {
        const uint64_t written = now->last > leader->status.last ? now->last - leader->status.last : 0;
        index = now->last + written * (2 + attempt);
    }
    free(now);
    return index;
}

static void ask(struct check *c, struct replica_check *r)
{
    char words[2][24];
    const char *argv[] = {"LOCKSTEP", "DIGEST", words[0], words[1]};
    snprintf(words[0], sizeof words[0], "%" PRIu64, c->index);
    snprintf(words[1], sizeof words[1], "%u", c->timeout_ms > 60000 ? 60000 : c->timeout_ms);
    r->outcome = OUTCOME_DOWN;
    r->digest[0] = '\0';
    if (!r->node->up) {
        snprintf(r->error, sizeof r->error, "%s", r->node->error);
        return;
    }
    r->connection = connection_open(&r->node->member.address, c->timeout_ms + 2000, true, r->error);
    if (r->connection != NULL && !connection_send(r->connection, 4, argv, NULL)) {
        snprintf(r->error, sizeof r->error, "%s", connection_error(r->connection));
        connection_close(r->connection);
        r->connection = NULL;
    }
}

static void hear(struct replica_check *r)
{
    struct reply_cursor cursor;
    struct reply_item item, digest;
    const char *data;
    size_t len;
    if (r->connection == NULL) {
        return;
    }
    if (!connection_read(r->connection, &data, &len)) {
        snprintf(r->error, sizeof r->error, "%s", connection_error(r->connection));
    } else {
        reply_begin(&cursor, data, len);
        bool ok = reply_next(&cursor, &item);
        if (ok && item.type == '*' && reply_next(&cursor, &digest) && reply_next(&cursor, &digest) &&
            digest.type == '$' && digest.len < DIGEST_MAX) {
            r->outcome = OUTCOME_DIGEST;
            snprintf(r->digest, sizeof r->digest, "%.*s", (int)digest.len, digest.text);
            r->error[0] = '\0';
        } else if (ok && item.type == '-') {
            const bool missed = strncmp(item.text, "PASSED", 6) == 0 || strncmp(item.text, "TRYAGAIN", 8) == 0;
            r->outcome = missed ? OUTCOME_MISSED : OUTCOME_DOWN;
            snprintf(r->error, sizeof r->error, "%.*s", item.len < 250 ? (int)item.len : 250, item.text);
        }
    }
    connection_close(r->connection);
    r->connection = NULL;
}

/* False: no leader was found. */
static bool attempt(struct check *c, unsigned number, char error[CONNECTION_ERROR_MAX])
{
    free(c->replicas);
    cluster_view_free(&c->view);
    c->replicas = NULL;
    if (!cluster_view_get(&c->view, &c->seeds, c->timeout_ms, error)) {
        return false;
    }
    c->replicas = calloc(c->view.n, sizeof *c->replicas);
    if (c->replicas == NULL || c->view.leader == NULL) {
        snprintf(error, CONNECTION_ERROR_MAX, "no leader is known: replicas can't be brought to one entry");
        return false;
    }
    c->index = pick_index(c, c->view.leader, number);
    for (unsigned i = 0; i < c->view.n; i++) {
        c->replicas[i].node = &c->view.nodes[i];
        ask(c, &c->replicas[i]);
    }
    for (unsigned i = 0; i < c->view.n; i++) {
        hear(&c->replicas[i]);
    }
    return true;
}

static unsigned count(const struct check *c, enum outcome outcome)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->view.n; i++) {
        n += c->replicas[i].outcome == outcome;
    }
    return n;
}

/* --- Telling ------------------------------------------------------------------------------------------------------ */

/* The digest that most replicas have. */
static const char *usual_digest(const struct check *c)
{
    const char *usual = "";
    unsigned most = 0;
    for (unsigned i = 0; i < c->view.n; i++) {
        unsigned n = 0;
        for (unsigned k = 0; k < c->view.n; k++) {
            n += c->replicas[i].digest[0] != '\0' && strcmp(c->replicas[i].digest, c->replicas[k].digest) == 0;
        }
        if (n > most) {
            most = n;
            usual = c->replicas[i].digest;
        }
    }
    return usual;
}

static bool all_equal(const struct check *c)
{
    const char *usual = usual_digest(c);
    for (unsigned i = 0; i < c->view.n; i++) {
        if (c->replicas[i].outcome == OUTCOME_DIGEST && strcmp(c->replicas[i].digest, usual) != 0) {
            return false;
        }
    }
    return usual[0] != '\0';
}

static void address_format(char *text, size_t size, const struct address *address)
{
    snprintf(text, size, strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u", address->host, address->port);
}

static void json_print(const struct check *c, bool equal, bool complete)
{
    json_t *nodes = json_array();
    for (unsigned i = 0; i < c->view.n; i++) {
        const struct replica_check *r = &c->replicas[i];
        char address[ADDRESS_HOST_MAX + 16];
        address_format(address, sizeof address, &r->node->member.address);
        json_array_append_new(nodes,
                              json_pack("{s:I, s:s, s:o, s:o}", "id", (json_int_t)r->node->member.id, "address",
                                        address, "digest", r->digest[0] != '\0' ? json_string(r->digest) : json_null(),
                                        "error", r->error[0] != '\0' ? json_string(r->error) : json_null()));
    }
    json_t *root = json_pack("{s:b, s:b, s:I, s:o}", "equal", equal, "complete", complete, "index",
                             (json_int_t)c->index, "nodes", nodes);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

static void table_print(const struct check *c, bool equal)
{
    const char *usual = usual_digest(c);
    printf("at entry %" PRIu64 ":\n%-6s %-24s %-9s %-17s\n", c->index, "node", "address", "role", "digest");
    for (unsigned i = 0; i < c->view.n; i++) {
        const struct replica_check *r = &c->replicas[i];
        char address[ADDRESS_HOST_MAX + 16];
        const char *verdict = r->outcome != OUTCOME_DIGEST    ? r->error
                              : strcmp(r->digest, usual) == 0 ? (equal ? "equal" : "as most")
                                                              : "DIFFERS";
        address_format(address, sizeof address, &r->node->member.address);
        printf("%-6" PRIu64 " %-24s %-9s %-17s %s\n", r->node->member.id, address,
               r->node->up ? r->node->status.role : "down", r->digest[0] != '\0' ? r->digest : "-", verdict);
    }
    if (!equal) {
        puts("The replicas differ. Take the one that differs out of service and rebuild it from its peers (remove it, "
             "and "
             "add a\nnode with an empty directory under a fresh id); keep its data directory for analysis.");
    }
}

static int check_run(struct check *c)
{
    char error[CONNECTION_ERROR_MAX] = "";
    bool asked = false;
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        asked = attempt(c, i, error);
        if (asked && count(c, OUTCOME_MISSED) == 0) {
            break;
        }
    }
    if (!asked || count(c, OUTCOME_DIGEST) == 0) {
        fprintf(stderr, "lockstep check: %s\n", asked ? "no replica gave a digest" : error);
        return EXIT_FAILED;
    }
    const bool equal = all_equal(c);
    const bool complete = count(c, OUTCOME_DIGEST) == c->view.n;
    if (c->json) {
        json_print(c, equal, complete);
    } else {
        table_print(c, equal);
    }
    return !equal ? EXIT_FAILED : complete ? EXIT_OK : EXIT_PARTLY;
}

int command_check(int argc, char **argv)
{
    struct check c = {.timeout_ms = TIMEOUT_MS_DEFAULT};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &c.seeds},
                                        {.name = "timeout-ms", .u32 = &c.timeout_ms, .min = 1, .max = 3600000},
                                        {.name = "json", .flag = &c.json},
                                        {.name = NULL}};
    const struct command_line line = {.usage = usage_text, .rules = rules};
    int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    code = check_run(&c);
    free(c.replicas);
    cluster_view_free(&c.view);
    return code;
}
