/* `lockstep restore` and `lockstep recover`: the data directory of a member of a new cluster, out of a backup, an
 * archive, or, when a majority is lost, out of what one survivor holds. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstep/artifact.h"
#include "cmd/lockstep/command.h"
#include "cmd/lockstep/datadir.h"
#include "cmd/lockstep/new_cluster.h"
#include "cmd/lockstep/options.h"
#include "cmd/lockstep/point.h"

static const char restore_usage[] =
    "Usage: lockstep restore FILE|DIR --to DATADIR --id N --nodes ID=HOST:PORT[:PEERPORT][,...] [OPTION]...\n"
    "Make the data directory of node N of a new cluster that begins with the content of a backup (lockstep backup) or "
    "of\n"
    "an archive (lockstep archive). Run it once for each node, then start them all. Offline; what was restored from "
    "is\n"
    "not changed, and the old cluster is not touched: the new one has another uuid.\n"
    "\n"
    "  --to DATADIR       is made; refused if it is not empty\n"
    "  --id N             of this node\n"
    "  --nodes LIST       all nodes of the new cluster, the same list for each\n"
    "  --uuid U           of the new cluster: 32 hexadecimal digits. Default: a new one, which is printed; give that\n"
    "                     one for the other nodes\n"
    "  --to-revision R    of an archive: the content at exactly revision R. A command and a MULTI are all or nothing: "
    "an\n"
    "                     R inside one is refused, with the nearest ones that can be had\n"
    "  --to-time T        of an archive: all entries whose cluster time is at or before T, which is in ms since 1970 "
    "or\n"
    "                     YYYY-MM-DDTHH:MM:SS[.mmm]Z\n"
    "  --json             print what was restored as one object\n"
    "  --help             show this\n"
    "\n"
    "Exit codes: 0 the directory is complete; 1 refused or failed, and the message says why; 2 wrong command line.\n";

static const char recover_usage[] =
    "Usage: lockstep recover OLDDIR --to DATADIR --id N --nodes ID=HOST:PORT[:PEERPORT][,...] [OPTION]...\n"
    "When a majority of the voters is lost for good: make the data directory of node N of a new cluster that begins "
    "with\n"
    "what one stopped survivor holds in OLDDIR. OLDDIR is not changed. Writes that were acknowledged and had not "
    "reached\n"
    "the survivor are LOST: without --accept-data-loss this only tells up to where it has them, and makes nothing. "
    "Use\n"
    "the survivor with the highest last term, and of these the one with the highest last index.\n"
    "\n"
    "  --to DATADIR         is made; refused if it is not empty\n"
    "  --id N               of this node\n"
    "  --nodes LIST         all nodes of the new cluster\n"
    "  --uuid U             of the new cluster, for its second and further nodes (see lockstep restore)\n"
    "  --accept-data-loss   do it\n"
    "  --json               print what was recovered as one object\n"
    "  --help               show this\n"
    "\n"
    "Members of the old cluster can't vote in the new one, which has another uuid: never start them again.\n"
    "Exit codes: 0 the directory is complete; 1 refused or failed, and the message says why; 2 wrong command line.\n";

struct restore {
    bool recover;
    const char *from;
    char *to, *uuid, *nodes;
    char node_list[4096]; /* `nodes` as it was given */
    struct point point;
    struct new_cluster cluster;
    bool accept, json;
};

static void progress_print(uint64_t done, uint64_t of)
{
    static time_t told;
    const time_t now = time(NULL);
    if (now != told && isatty(STDERR_FILENO)) {
        told = now;
        fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MiB ", done >> 20, of >> 20);
    }
}

/* What the survivor knows, and what nobody can know. */
static void loss_print(const struct restore *r, const struct content *content)
{
    FILE *out = r->json ? stderr : stdout; /* what programs read is the object alone */
    struct configuration_server servers[REPLICA_SERVERS_MAX];
    struct configuration_settings settings;
    const struct snapshot_meta *m = &content->meta;
    const uint64_t now_ms = (uint64_t)time(NULL) * 1000;
    char when[40];
    unsigned voters = 0;
    point_format_time(when, m->cluster_time_ms);
    fprintf(out,
            "%s holds entries up to index %" PRIu64 " of term %" PRIu64 ": revision %" PRIu64
            ", cluster time %s, %" PRIu64 " s ago\n",
            r->from, m->index, m->term, m->revision, when,
            now_ms > m->cluster_time_ms ? (now_ms - m->cluster_time_ms) / 1000 : 0);
    if (m->configuration_len > 0 && configuration_check(m->configuration, m->configuration_len, REPLICA_SERVERS_MAX,
                                                        REPLICA_ADDRESS_MAX, &settings)) {
        const unsigned n = configuration_servers(m->configuration, servers, REPLICA_SERVERS_MAX);
        for (unsigned i = 0; i < n; i++) {
            voters += servers[i].voter;
            fprintf(out, "  member of the old cluster: node %" PRIu64 " %s %s\n", servers[i].id, servers[i].address,
                    servers[i].voter ? "voter" : "learner");
        }
        fprintf(out, "%s\n",
                voters <= 1 ? "It was the only voter: nothing that was acknowledged is missing."
                            : "A majority of these voters can have acknowledged writes that never came here:");
    }
    if (voters != 1) {
        fprintf(
            out,
            "every write acknowledged behind index %" PRIu64 ", which is after %s or in that millisecond, is lost.\n"
            "Writes at the end of the log that were never acknowledged (-UNKNOWN) may become part of the content.\n",
            m->index, when);
    }
}

/* The command with which the other nodes are made. */
static void again_format(const struct restore *r, char *text, size_t size)
{
    char uuid[33], point[64] = "";
    new_cluster_uuid_format(&r->cluster, uuid);
    if (r->point.by_revision) {
        snprintf(point, sizeof point, " --to-revision %" PRIu64, r->point.revision);
    } else if (r->point.by_time) {
        snprintf(point, sizeof point, " --to-time %" PRIu64, r->point.time_ms);
    }
    snprintf(text, size, "lockstep %s %s --nodes %s --uuid %s%s%s", r->recover ? "recover" : "restore", r->from,
             r->node_list, uuid, point, r->accept ? " --accept-data-loss" : "");
}

static void done_print(const struct restore *r, const struct content *content)
{
    const struct snapshot_meta *m = &content->meta;
    char uuid[33], digest[17], when[40], again[8192];
    new_cluster_uuid_format(&r->cluster, uuid);
    snprintf(digest, sizeof digest, "%016" PRIx64, store_digest(content->store));
    if (r->json) {
        json_t *o = json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:s}", "dir", r->to, "id",
                              (json_int_t)r->cluster.id, "uuid", uuid, "revision",
                              (json_int_t)store_revision(content->store), "index", (json_int_t)m->index, "term",
                              (json_int_t)m->term, "time_ms", (json_int_t)store_time_ms(content->store), "keys",
                              (json_int_t)store_keys(content->store), "digest", digest);
        json_dumpf(o, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(o);
        return;
    }
    point_format_time(when, store_time_ms(content->store));
    printf("%s: revision %" PRIu64 ", entry %" PRIu64 ", cluster time %s, %" PRIu64 " keys, digest %s\n", r->to,
           store_revision(content->store), m->index, when, store_keys(content->store), digest);
    printf("node %" PRIu64 " of the new cluster %s\n", r->cluster.id, uuid);
    again_format(r, again, sizeof again);
    new_cluster_advice(&r->cluster, again, r->to);
}

/* Would the new directory be made inside the old one, which is not to be changed? */
static bool is_inside(const char *dir, const char *of)
{
    char outer[PATH_MAX], parent[PATH_MAX], copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", dir);
    if (realpath(of, outer) == NULL || realpath(dirname(copy), parent) == NULL) {
        return false;
    }
    const size_t len = strlen(outer);
    return strncmp(parent, outer, len) == 0 && (parent[len] == '\0' || parent[len] == '/');
}

static int restore_run(struct restore *r)
{
    struct content content;
    char error[POINT_ERROR_MAX], why[NEW_CLUSTER_ERROR_MAX];
    if (r->to != NULL && !new_cluster_dir_ok(r->to, why)) {
        fprintf(stderr, "lockstep: %s\n", why);
        return EXIT_FAILED;
    }
    if (r->recover != (artifact_of(r->from) == ARTIFACT_DATADIR)) {
        fprintf(stderr, "lockstep: %s is %s\n", r->from,
                r->recover ? "not the data directory of a node: for backups and archives there is lockstep restore"
                           : "the data directory of a node: for the loss of a majority there is lockstep recover");
        return EXIT_FAILED;
    }
    if (is_inside(r->to, r->from)) {
        fprintf(stderr, "lockstep: %s lies inside %s, in which nothing is to be changed: give another directory\n",
                r->to, r->from);
        return EXIT_FAILED;
    }
    bool ok = point_load(r->from, &r->point, &content, error, progress_print);
    if (ok && r->recover) {
        loss_print(r, &content);
        if (!r->accept) {
            snprintf(error, sizeof error, "nothing was made: say --accept-data-loss if that is what you want");
            ok = false;
        }
    }
    if (ok) {
        new_cluster_settings(&r->cluster, &content);
        ok = new_cluster_write(&r->cluster, &content, r->to, why);
        snprintf(error, sizeof error, "%s", why);
    }
    if (ok) {
        done_print(r, &content);
    } else {
        fprintf(stderr, "lockstep: %s\n", error);
    }
    content_fini(&content);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* False: told on stderr. */
static bool arguments_ok(struct restore *r, const char *name)
{
    bool member = false;
    if (r->to == NULL || r->cluster.id == 0 || r->nodes == NULL) {
        fprintf(stderr, "lockstep %s: --to, --id and --nodes are needed (lockstep %s --help)\n", name, name);
        return false;
    }
    snprintf(r->node_list, sizeof r->node_list, "%s", r->nodes);
    if (!new_cluster_nodes(&r->cluster, r->nodes) || !new_cluster_uuid(&r->cluster, r->uuid)) {
        return false;
    }
    for (unsigned i = 0; i < r->cluster.n_nodes; i++) {
        member = member || r->cluster.nodes[i].id == r->cluster.id;
    }
    if (!member) {
        fprintf(stderr, "lockstep %s: node %" PRIu64 " is not in --nodes\n", name, r->cluster.id);
    }
    if (r->point.by_revision && r->point.by_time) {
        fprintf(stderr, "lockstep %s: either --to-revision or --to-time\n", name);
        return false;
    }
    return member;
}

static bool revision_take(void *ctx, char *text)
{
    struct restore *r = ctx;

    r->point.by_revision = true;
    return option_u64("--to-revision", text, 0, INT64_MAX, &r->point.revision);
}

static bool time_take(void *ctx, char *text)
{
    struct restore *r = ctx;

    r->point.by_time = true;
    if (!point_parse_time(text, &r->point.time_ms)) {
        fprintf(stderr, "lockstep: --to-time wants ms since 1970 or YYYY-MM-DDTHH:MM:SS[.mmm]Z, not \"%s\"\n", text);
        return false;
    }
    return true;
}

static int command_run(struct restore *r, const struct command_line *line, int argc, char **argv)
{
    const int code = options_read(line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    r->from = argv[optind];
    return arguments_ok(r, r->recover ? "recover" : "restore") ? restore_run(r) : EXIT_USAGE;
}

int command_restore(int argc, char **argv)
{
    struct restore r = {0};
    const struct option_rule rules[] = {{.name = "to", .text = &r.to},
                                        {.name = "id", .u64 = &r.cluster.id, .min = 1, .max = INT64_MAX},
                                        {.name = "nodes", .text = &r.nodes},
                                        {.name = "uuid", .text = &r.uuid},
                                        {.name = "to-revision", .take = revision_take, .ctx = &r},
                                        {.name = "to-time", .take = time_take, .ctx = &r},
                                        {.name = "json", .flag = &r.json},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = restore_usage, .rules = rules, .operands = "FILE or DIR", .operands_min = 1, .operands_max = 1};

    return command_run(&r, &line, argc, argv);
}

int command_recover(int argc, char **argv)
{
    struct restore r = {.recover = true};
    const struct option_rule rules[] = {{.name = "to", .text = &r.to},
                                        {.name = "id", .u64 = &r.cluster.id, .min = 1, .max = INT64_MAX},
                                        {.name = "nodes", .text = &r.nodes},
                                        {.name = "uuid", .text = &r.uuid},
                                        {.name = "accept-data-loss", .flag = &r.accept},
                                        {.name = "json", .flag = &r.json},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = recover_usage, .rules = rules, .operands = "OLDDIR", .operands_min = 1, .operands_max = 1};

    return command_run(&r, &line, argc, argv);
}
