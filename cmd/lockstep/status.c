/* `lockstep status`: asks one node for the members, then every member for its state. */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/node_status.h"

#define TIMEOUT_MS_DEFAULT 1000

static const char usage_text[] =
    "Usage: lockstep status [OPTION]...\n"
    "Show every node of a cluster: role, term, how far it has committed and applied, how far it is behind, and "
    "whether\n"
    "it answers linearizable reads from memory.\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask for the members, the first that answers counts\n"
    "                          (default 127.0.0.1:7379, then :7380 and :7381)\n"
    "  --timeout-ms T          for connecting and for each answer (default 1000)\n"
    "  --json                  one object; `nodes` holds id, address, pid, role, term, commit, applied, last, lag,\n"
    "                          uptime_ms, local_reads, local_left_us, exposed, transfers, reads; what is unknown of a\n"
    "                          node that is down is null\n"
    "  --help                  show this\n"
    "\n"
    "lag is the number of log entries that the leader has committed and the node has not applied. reads says for how\n"
    "many ms the node may answer from memory unless that is renewed, else why it may not (role: it neither leads nor\n"
    "holds a grant).\n"
    "Exit codes: 0 all nodes are up and there is a leader; 1 no node answers; 2 wrong command line; 3 a node is down "
    "or\n"
    "there is no leader.\n";

/* One member and what it said; filled in by a thread of its own. */
struct probe {
    struct node_member member;
    unsigned timeout_ms;
    bool up;
    struct node_status status;
    char error[CONNECTION_ERROR_MAX];
    pthread_t thread;
    bool threaded;
};

struct overview {
    struct probe *probes;
    unsigned n;
    uint64_t term, leader, commit; /* of the leader with the highest term; leader 0: none */
    bool all_up;
};

struct status_options {
    struct seeds seeds;
    uint32_t timeout_ms;
    bool json;
};

static void *probe_run(void *data)
{
    struct probe *probe = data;
    probe->up = node_status_fetch(&probe->member.address, probe->timeout_ms, &probe->status, probe->error);
    if (probe->up && probe->status.id != probe->member.id) {
        snprintf(probe->error, sizeof(probe->error), "another node answers there: %" PRIu64, probe->status.id);
        probe->up = false;
    }
    return NULL;
}

/* A node that moved is not where the members' list says, but was asked where it is. */
static void moved_note(struct probe *probe, const struct node_status *seed, const struct address *at)
{
    if (probe->up || probe->member.id != seed->id) {
        return;
    }
    fprintf(stderr,
            "lockstep: node %" PRIu64 " answers at %s:%u, but the others are told %s:%u: if it moved, tell them with "
            "lockstep member address\n",
            seed->id, at->host, at->port, probe->member.address.host, probe->member.address.port);
    probe->member.address = *at;
    probe->status = *seed;
    probe->up = true;
}

static bool overview_gather(struct overview *overview, const struct node_status *seed, const struct address *at,
                            unsigned timeout_ms)
{
    overview->n = seed->n_members;
    overview->probes = calloc(overview->n == 0 ? 1 : overview->n, sizeof(*overview->probes));
    if (overview->probes == NULL) {
        return false;
    }
    for (unsigned i = 0; i < overview->n; i++) {
        struct probe *probe = &overview->probes[i];
        probe->member = seed->members[i];
        probe->timeout_ms = timeout_ms;
        probe->threaded = pthread_create(&probe->thread, NULL, probe_run, probe) == 0;
        if (!probe->threaded) {
            probe_run(probe);
        }
    }
    overview->all_up = true;
    for (unsigned i = 0; i < overview->n; i++) {
        struct probe *probe = &overview->probes[i];
        if (probe->threaded) {
            pthread_join(probe->thread, NULL);
        }
        moved_note(probe, seed, at);
        overview->all_up = overview->all_up && probe->up;
        if (probe->up && strcmp(probe->status.role, "leader") == 0 && probe->status.term >= overview->term) {
            overview->term = probe->status.term;
            overview->leader = probe->status.id;
            overview->commit = probe->status.commit;
        }
    }
    return true;
}

static uint64_t probe_lag(const struct overview *overview, const struct probe *probe)
{
    return overview->commit > probe->status.applied ? overview->commit - probe->status.applied : 0;
}

/* --- text ----------------------------------------------------------------------------------------------------------
 */

static void uptime_format(char *text, size_t size, uint64_t uptime_ms)
{
    uint64_t s = uptime_ms / 1000;
    if (s < 60) {
        snprintf(text, size, "%" PRIu64 "s", s);
    } else if (s < 3600) {
        snprintf(text, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(text, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    } else {
        snprintf(text, size, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    }
}

static void address_format(char *text, size_t size, const struct address *address)
{
    snprintf(text, size, strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u", address->host, address->port);
}

/* "local 143ms", or why not. */
static void reads_format(char *text, size_t size, const struct node_status *status)
{
    if (strcmp(status->local_reads, "yes") == 0) {
        snprintf(text, size, "local %" PRIu64 "ms", status->local_left_us / 1000);
    } else {
        snprintf(text, size, "%s", status->local_reads);
    }
}

static void overview_print(const struct overview *overview)
{
    int width = 7;
    char address[ADDRESS_HOST_MAX + 16];
    for (unsigned i = 0; i < overview->n; i++) {
        address_format(address, sizeof(address), &overview->probes[i].member.address);
        width = (int)strlen(address) > width ? (int)strlen(address) : width;
    }
    printf("%-4s  %-*s  %-9s  %6s  %10s  %10s  %8s  %11s  %8s  %7s\n", "node", width, "address", "role", "term",
           "commit", "applied", "lag", "reads", "up-time", "pid");
    for (unsigned i = 0; i < overview->n; i++) {
        const struct probe *probe = &overview->probes[i];
        const struct node_status *status = &probe->status;
        address_format(address, sizeof(address), &probe->member.address);
        if (!probe->up) {
            printf("%-4" PRIu64 "  %-*s  %-9s  %s\n", probe->member.id, width, address, "down", probe->error);
            continue;
        }
        char lag[24] = "-", uptime[24], reads[40];
        if (overview->leader != 0) {
            snprintf(lag, sizeof(lag), "%" PRIu64, probe_lag(overview, probe));
        }
        uptime_format(uptime, sizeof(uptime), status->uptime_ms);
        reads_format(reads, sizeof(reads), status);
        printf("%-4" PRIu64 "  %-*s  %-9s  %6" PRIu64 "  %10" PRIu64 "  %10" PRIu64 "  %8s  %11s  %8s  %7" PRIu64 "\n",
               probe->member.id, width, address, status->role, status->term, status->commit, status->applied, lag,
               reads, uptime, status->pid);
    }
    if (overview->leader == 0) {
        puts("no leader");
    }
}

/* --- JSON ----------------------------------------------------------------------------------------------------------
 */

static json_t *probe_json(const struct overview *overview, const struct probe *probe)
{
    char address[ADDRESS_HOST_MAX + 16];
    address_format(address, sizeof(address), &probe->member.address);
    const struct node_status *status = &probe->status;
    if (!probe->up) {
        return json_pack("{s:I, s:s, s:n, s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:s}", "id",
                         (json_int_t)probe->member.id, "address", address, "pid", "role", "down", "term", "commit",
                         "applied", "last", "lag", "uptime_ms", "local_reads", "local_left_us", "exposed", "transfers",
                         "reads", "error", probe->error);
    }
    json_t *lag = overview->leader == 0 ? json_null() : json_integer((json_int_t)probe_lag(overview, probe));
    json_t *reads = json_object();
    for (unsigned i = 0; i < NODE_STATUS_READS; i++) {
        json_object_set_new(reads, node_status_read_name(i), json_integer((json_int_t)status->reads[i]));
    }
    return json_pack("{s:I, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:o, s:I, s:s, s:I, s:I, s:I, s:o}", "id",
                     (json_int_t)probe->member.id, "address", address, "pid", (json_int_t)status->pid, "role",
                     status->role, "term", (json_int_t)status->term, "commit", (json_int_t)status->commit, "applied",
                     (json_int_t)status->applied, "last", (json_int_t)status->last, "lag", lag, "uptime_ms",
                     (json_int_t)status->uptime_ms, "local_reads", status->local_reads, "local_left_us",
                     (json_int_t)status->local_left_us, "exposed", (json_int_t)status->exposed, "transfers",
                     (json_int_t)status->transfers, "reads", reads);
}

static void overview_print_json(const struct overview *overview)
{
    json_t *nodes = json_array();
    for (unsigned i = 0; i < overview->n; i++) {
        json_array_append_new(nodes, probe_json(overview, &overview->probes[i]));
    }
    json_t *leader = overview->leader == 0 ? json_null() : json_integer((json_int_t)overview->leader);
    json_t *root = json_pack("{s:o, s:o}", "leader", leader, "nodes", nodes);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

/* --- the command ---------------------------------------------------------------------------------------------------
 */

/* A node that lists nobody is a cluster of its own. */
static void seed_complete(struct node_status *seed, const struct address *address)
{
    if (seed->n_members == 0) {
        fprintf(stderr, "lockstep: node %" PRIu64 " is not a member of a cluster yet: lockstep member add\n", seed->id);
        seed->members[0] = (struct node_member){.id = seed->id, .address = *address};
        seed->n_members = 1;
    }
}

static int status_run(const struct status_options *options)
{
    struct node_status *seed = malloc(sizeof(*seed));
    const struct address *at = options->seeds.at;
    bool found = false;
    for (unsigned i = 0; seed != NULL && !found && i < options->seeds.n; i++) {
        char error[CONNECTION_ERROR_MAX];
        at = &options->seeds.at[i];
        found = node_status_fetch(&options->seeds.at[i], options->timeout_ms, seed, error);
        if (found) {
            seed_complete(seed, &options->seeds.at[i]);
        } else {
            fprintf(stderr, "lockstep: %s:%u: %s\n", options->seeds.at[i].host, options->seeds.at[i].port, error);
        }
    }
    struct overview overview = {0};
    int code = EXIT_FAILED;
    if (found && overview_gather(&overview, seed, at, options->timeout_ms)) {
        if (options->json) {
            overview_print_json(&overview);
        } else {
            overview_print(&overview);
        }
        code = overview.all_up && overview.leader != 0 ? EXIT_OK : EXIT_PARTLY;
    }
    free(overview.probes);
    free(seed);
    return code;
}

int command_status(int argc, char **argv)
{
    struct status_options options = {.timeout_ms = TIMEOUT_MS_DEFAULT};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &options.seeds},
                                        {.name = "timeout-ms", .u32 = &options.timeout_ms, .min = 1, .max = 3600000},
                                        {.name = "json", .flag = &options.json},
                                        {.name = NULL}};
    const struct command_line line = {.usage = usage_text, .rules = rules};
    const int code = options_read(&line, argc, argv);

    return code == OPTIONS_OK ? status_run(&options) : code;
}
