/* `lockstep archive`: a base backup and, from there on, every committed entry of the log, so that any revision since
 * can be restored.
 *
 * The archive goes on where it ended: behind its last entry, else behind its newest base backup. Entries come from any
 * node, since committed ones are the same everywhere. If all nodes have dropped an entry that is due, a new base backup
 * is taken, and what lies between can't be restored to: that is said, and shown by `lockstep verify`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/lockstep/archive_file.h"
#include "cmd/lockstep/command.h"
#include "cmd/lockstep/content.h"
#include "cmd/lockstep/entries.h"
#include "cmd/lockstep/fetch.h"
#include "consensus/log_piece.h"

#define TIMEOUT_MS_DEFAULT 5000
#define PIECE_BYTES "1048576"
#define POLL_MS 100u
#define RETRY_MS 500u
#define ONCE_PATIENCE_S 30

static const char usage_text[] =
    "Usage: lockstep archive DIR [OPTION]...\n"
    "Keep an archive of a running cluster in DIR: a base backup, and every committed log entry from there on. "
    "`lockstep\n"
    "restore DIR` makes a new cluster of it, at the end or at any revision or time in between. Runs until it is told "
    "to\n"
    "stop (SIGINT, SIGTERM), and goes on where it ended when it is started again, also after kill -9.\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask for the members, the first that answers counts (default 127.0.0.1:7379, "
    "then\n"
    "                          :7380 and :7381). Followers do the work as long as there are any\n"
    "  --once                  stop when everything that was committed at the start is archived; fail if no node "
    "answers\n"
    "                          for 30 s\n"
    "  --base                  take a new base backup first, so that restoring gets faster\n"
    "  --sync-ms T             what was archived is on disk for sure after this long at the latest (default 1000)\n"
    "  --timeout-ms T          for connecting and for each answer (default 5000)\n"
    "  --quiet                 say nothing but errors\n"
    "  --help                  show this\n"
    "\n"
    "If entries were dropped by all nodes before they were archived, a new base backup is taken, and revisions in "
    "between\n"
    "can't be restored. Older base backups and files may be removed by hand, oldest first.\n"
    "Exit codes: 0 stopped as asked, with --once: all is archived; 1 failed, and the message says why; 2 wrong command "
    "line.\n";

struct archive {
    const char *dir;
    struct seeds seeds;
    uint32_t timeout_ms, sync_ms;
    bool once, base, quiet;

    struct env *env; /* of the directory; holds its lock */
    uint8_t cluster[16];
    bool cluster_known;
    uint64_t next, term; /* entry that is due, and the term of the one before */
    uint64_t goal;       /* --once: until this is archived */
    struct archive_writer *writer;
    bool unsynced;
    uint64_t unsynced_us; /* since when */
    struct connection *connection;
    struct address address;
    unsigned node;    /* the next one to be tried, 0: the most suitable */
    unsigned n_nodes; /* as seen last */
    uint64_t lost_us; /* since when no node has answered, 0: one does */
    unsigned gone;    /* nodes in a row that had dropped what is due */
    char error[ENTRIES_ERROR_MAX];
};

enum pulled { PULLED_SOME, PULLED_NONE, PULLED_GONE, PULLED_LOST, PULLED_FAILED };

static volatile sig_atomic_t stopping;

static void stop_cb(int number)
{
    (void)number;
    stopping = 1;
}

static void nap(unsigned ms)
{
    const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL); /* a signal ends it */
}

static bool fail(struct archive *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct archive *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->error, sizeof a->error, format, args);
    va_end(args);
    return false;
}

/* --- Where it ended ----------------------------------------------------------------------------------------------- */

struct found {
    uint64_t base_index, base_term, first;
    bool part;
    uint64_t part_index, part_term;
};

static void found_cb(void *ctx, const char *name, uint64_t size)
{
    struct found *f = ctx;
    uint64_t index, term;
    char stem[SNAPSHOT_NAME_BYTES];
    const size_t len = strlen(name);
    (void)size;
    if (snapshot_name_parse(name, &index, &term) && index > f->base_index) {
        f->base_index = index;
        f->base_term = term;
    }
    if (archive_name_parse(name, &index) && index > f->first) {
        f->first = index;
    }
    if (len > 5 && len < sizeof stem && strcmp(name + len - 5, ".part") == 0) {
        snprintf(stem, sizeof stem, "%.*s", (int)len - 5, name);
        f->part = f->part || snapshot_name_parse(stem, &f->part_index, &f->part_term);
    }
}

static bool cluster_is(struct archive *a, const uint8_t cluster[16], const char *what)
{
    if (a->cluster_known && memcmp(a->cluster, cluster, sizeof a->cluster) != 0) {
        return fail(a, "%s is of another cluster than the rest of %s: one directory for each cluster", what, a->dir);
    }
    memcpy(a->cluster, cluster, sizeof a->cluster);
    a->cluster_known = true;
    return true;
}

/* The last file: go on with it, or behind it if it was sealed. */
static bool resume_file(struct archive *a, uint64_t first)
{
    char error[ARCHIVE_ERROR_MAX], path[PATH_MAX], name[ARCHIVE_NAME_BYTES];
    archive_name_format(name, first);
    snprintf(path, sizeof path, "%s/%s", a->dir, name);
    struct archive_reader *reader = archive_reader_open(path, error);
    if (reader == NULL) {
        return fail(a, "%s", error);
    }
    const bool ours = cluster_is(a, archive_reader_head(reader)->cluster, path);
    archive_reader_close(reader);
    if (!ours) {
        return false;
    }
    a->writer = archive_writer_resume(a->dir, first, &a->next, &a->term, error);
    return a->writer != NULL || error[0] == '\0' || fail(a, "%s", error);
}

static bool find_end(struct archive *a, struct found *found)
{
    struct content base;
    char name[SNAPSHOT_NAME_BYTES];
    *found = (struct found){0};
    if (a->env->ops->list(a->env, found_cb, found) != ENV_OK) {
        return fail(a, "can't list %s", a->dir);
    }
    if (found->base_index != 0) {
        snapshot_name_format(name, found->base_index, found->base_term, "");
        const bool good = content_read(&base, a->env, name, CONTENT_HEADERS, NULL);
        const bool ours = good ? cluster_is(a, base.meta.cluster, name) : fail(a, "%s", base.error);
        content_fini(&base);
        if (!ours) {
            return false;
        }
        a->next = found->base_index + 1;
        a->term = found->base_term;
    }
    return found->first == 0 || resume_file(a, found->first);
}

/* --- Base backups ------------------------------------------------------------------------------------------------- */

/* `jump`: go on behind it, whatever was due. `found`: a partial one may be there. */
static bool take_base(struct archive *a, const struct found *found, bool jump)
{
    struct fetch fetch = {.timeout_ms = a->timeout_ms, .quiet = a->quiet};
    char name[SNAPSHOT_NAME_BYTES];
    struct content head;
    const bool partly =
        found != NULL && found->part && fetch_find(&fetch, &a->seeds, found->part_index, found->part_term);
    if (!partly && !fetch_take(&fetch, &a->seeds, false)) {
        return fail(a, "%s", fetch.error);
    }
    snprintf(name, sizeof name, "snapshot-%016" PRIx64 "-%016" PRIx64, fetch.index, fetch.term);
    const bool there = content_read(&head, a->env, name, CONTENT_HEADERS, NULL);
    content_fini(&head);
    if (!there && !fetch_run(&fetch, a->env)) {
        return fail(a, "%s", fetch.error);
    }
    const bool good = content_read(&head, a->env, name, CONTENT_HEADERS, NULL);
    const bool ours = good ? cluster_is(a, head.meta.cluster, name) : fail(a, "%s", head.error);
    content_fini(&head);
    if (!ours) {
        return false;
    }
    if (jump && fetch.index + 1 > a->next) {
        a->next = fetch.index + 1;
        a->term = fetch.term;
    }
    if (!a->quiet) {
        printf("base backup up to entry %" PRIu64 ", %" PRIu64 " bytes, from %s:%u\n", fetch.index, fetch.bytes,
               fetch.address.host, fetch.address.port);
        (void)fflush(stdout);
    }
    return true;
}

/* --- Entries ------------------------------------------------------------------------------------------------------ */

static void disconnect(struct archive *a)
{
    connection_close(a->connection);
    a->connection = NULL;
}

static bool node_is_ours(const struct archive *a, const struct node_status *status)
{
    char uuid[33];
    for (unsigned i = 0; i < sizeof a->cluster; i++) {
        snprintf(uuid + 2 * i, 3, "%02x", a->cluster[i]);
    }
    return strcmp(uuid, status->cluster) == 0;
}

/* A connection to the next node that is of use: followers first. */
static bool connect_next(struct archive *a)
{
    struct cluster_view view;
    char error[CONNECTION_ERROR_MAX];
    if (!cluster_view_get(&view, &a->seeds, a->timeout_ms, error)) {
        a->node++;
        return fail(a, "%s", error);
    }
    const struct cluster_node *node = a->node == 0 ? cluster_view_follower(&view) : NULL;
    node = node != NULL ? node : &view.nodes[a->node % view.n];
    a->node++;
    a->n_nodes = view.n;
    if (a->once && a->goal == 0 && view.leader != NULL) {
        a->goal = view.leader->status.commit;
    }
    a->address = node->member.address;
    snprintf(error, sizeof error, "%s", node->error);
    if (a->once && a->goal == 0) {
        snprintf(error, sizeof error, "no leader is known");
    } else if (node->up && !node_is_ours(a, &node->status)) {
        snprintf(error, sizeof error, "it is of another cluster than the archive");
    } else if (node->up) {
        a->connection = connection_open(&a->address, a->timeout_ms, true, error);
    }
    (void)fail(a, "%s:%u: %s", a->address.host, a->address.port, error);
    cluster_view_free(&view);
    return a->connection != NULL;
}

static bool writer_ready(struct archive *a)
{
    char error[ARCHIVE_ERROR_MAX];
    if (a->writer != NULL && archive_writer_bytes(a->writer) >= ARCHIVE_FILE_BYTES) {
        const bool ok = archive_writer_close(a->writer, true, error);
        a->writer = NULL;
        a->unsynced = false;
        if (!ok) {
            return fail(a, "%s", error);
        }
    }
    if (a->writer == NULL) {
        struct archive_head head = {.first_index = a->next, .prev_term = a->term};
        memcpy(head.cluster, a->cluster, sizeof head.cluster);
        a->writer = archive_writer_create(a->dir, &head, error);
    }
    return a->writer != NULL || fail(a, "%s", error);
}

static enum pulled piece_keep(struct archive *a, struct log_piece *piece)
{
    struct wal_entry entry;
    char error[ARCHIVE_ERROR_MAX];
    const bool some = piece->left > 0;
    while (log_piece_next(piece, &entry)) {
        if (!writer_ready(a)) {
            return PULLED_FAILED;
        }
        if (!archive_writer_add(a->writer, &entry, error)) {
            (void)fail(a, "%s", error);
            return PULLED_FAILED;
        }
        a->next = entry.index + 1;
        a->term = entry.term;
        if (!a->unsynced) {
            a->unsynced = true;
            a->unsynced_us = a->env->ops->now_us(a->env);
        }
    }
    return some ? PULLED_SOME : PULLED_NONE;
}

static enum pulled pull(struct archive *a)
{
    char index[24];
    const char *argv[] = {"LOCKSTEP", "LOG", "READ", index, PIECE_BYTES};
    struct reply_item item;
    struct log_piece piece;
    snprintf(index, sizeof index, "%" PRIu64, a->next);
    if (!connection_call(a->connection, 5, argv, &item)) {
        (void)fail(a, "%s:%u: %s", a->address.host, a->address.port, connection_error(a->connection));
        return PULLED_LOST;
    }
    if (item.type == '-') {
        (void)fail(a, "%s:%u: %.*s", a->address.host, a->address.port, item.len < 300 ? (int)item.len : 300, item.text);
        return strncmp(item.text, "LOGGONE", 7) == 0 ? PULLED_GONE : PULLED_LOST;
    }
    if (item.type != '$' || !log_piece_open(&piece, item.text, item.len)) {
        (void)fail(a, "%s:%u: what it sends is damaged", a->address.host, a->address.port);
        return PULLED_LOST;
    }
    return piece_keep(a, &piece);
}

static bool sync_now(struct archive *a)
{
    char error[ARCHIVE_ERROR_MAX];
    const bool ok = !a->unsynced || archive_writer_sync(a->writer, error) || fail(a, "%s", error);
    a->unsynced = false;
    return ok;
}

/* All nodes have dropped the entry that is due. */
static bool bridge_gap(struct archive *a)
{
    char error[ARCHIVE_ERROR_MAX];
    const uint64_t due = a->next;
    if (a->writer != NULL) {
        const bool ok = archive_writer_close(a->writer, true, error);
        a->writer = NULL;
        a->unsynced = false;
        if (!ok) {
            return fail(a, "%s", error);
        }
    }
    if (!take_base(a, NULL, true)) {
        return false;
    }
    if (a->next > due) {
        fprintf(stderr,
                "lockstep archive: entries %" PRIu64 " to %" PRIu64
                " are gone from all nodes: revisions between the end "
                "of the archive and the new base backup can't be restored. Archive without interruption, or let the "
                "nodes keep more of the log\n",
                due, a->next - 1);
    }
    return true;
}

/* Somebody waits for --once to end. */
static bool lost_for_good(struct archive *a)
{
    const uint64_t now_us = a->env->ops->now_us(a->env);
    a->lost_us = a->lost_us != 0 ? a->lost_us : now_us;
    return now_us - a->lost_us > ONCE_PATIENCE_S * UINT64_C(1000000);
}

/* One round. False: a->error. */
static bool round_run(struct archive *a)
{
    enum pulled pulled = PULLED_LOST;
    if (a->connection != NULL || connect_next(a)) {
        pulled = pull(a);
    }
    switch (pulled) {
    case PULLED_SOME:
        a->lost_us = 0;
        a->node = 0;
        a->gone = 0;
        break;
    case PULLED_NONE:
        a->lost_us = 0;
        if (!sync_now(a)) {
            return false;
        }
        nap(POLL_MS);
        break;
    case PULLED_GONE:
        disconnect(a);
        if (++a->gone > a->n_nodes) {
            a->gone = 0;
            a->node = 0;
            return bridge_gap(a);
        }
        break;
    case PULLED_LOST:
        disconnect(a);
        if (!a->quiet && a->node % 10 == 1) {
            fprintf(stderr, "lockstep archive: %s; trying again\n", a->error);
        }
        if (a->once && lost_for_good(a)) {
            return false;
        }
        nap(RETRY_MS);
        break;
    case PULLED_FAILED:
        return false;
    }
    const uint64_t age_us = a->unsynced ? a->env->ops->now_us(a->env) - a->unsynced_us : 0;
    return age_us < (uint64_t)a->sync_ms * 1000 || sync_now(a);
}

static bool archive_loop(struct archive *a)
{
    while (!stopping && !(a->goal != 0 && a->next > a->goal)) {
        if (!round_run(a)) {
            return false;
        }
    }
    return true;
}

static int archive_run(struct archive *a)
{
    const struct file_env_config config = {.dir = a->dir, .mode = FILE_ENV_WRITE, .lock = true};
    char error[FILE_ENV_ERROR_MAX];
    struct found found;
    a->env = file_env_new(&config, error);
    if (a->env == NULL) {
        fprintf(stderr, "lockstep archive: %s\n", error);
        return EXIT_FAILED;
    }
    bool ok = find_end(a, &found);
    if (ok && (a->next == 0 || a->base)) {
        ok = take_base(a, &found, a->next == 0);
    }
    if (ok && !a->quiet) {
        printf("archiving from entry %" PRIu64 " on\n", a->next);
        (void)fflush(stdout);
    }
    ok = ok && archive_loop(a);
    disconnect(a);
    if (a->writer != NULL) {
        char why[ARCHIVE_ERROR_MAX];
        if (!archive_writer_close(a->writer, ok, why) && ok) {
            ok = fail(a, "%s", why);
        }
    }
    if (ok && a->once && (a->goal == 0 || a->next <= a->goal)) {
        ok = fail(a, "stopped before everything was archived; the same command goes on");
    }
    file_env_free(a->env);
    if (!ok) {
        fprintf(stderr, "lockstep archive: %s\n", a->error);
    } else if (!a->quiet) {
        printf("archived up to entry %" PRIu64 "\n", a->next - 1);
    }
    return ok ? EXIT_OK : EXIT_FAILED;
}

int command_archive(int argc, char **argv)
{
    static struct archive a = {.timeout_ms = TIMEOUT_MS_DEFAULT, .sync_ms = 1000};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &a.seeds},
                                        {.name = "once", .flag = &a.once},
                                        {.name = "base", .flag = &a.base},
                                        {.name = "sync-ms", .u32 = &a.sync_ms, .min = 0, .max = 3600000},
                                        {.name = "timeout-ms", .u32 = &a.timeout_ms, .min = 1, .max = 3600000},
                                        {.name = "quiet", .flag = &a.quiet},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "DIR", .operands_min = 1, .operands_max = 1};
    const struct sigaction stop = {.sa_handler = stop_cb};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    a.dir = argv[optind];
    if (strlen(a.dir) + 64 >= PATH_MAX) {
        fprintf(stderr, "lockstep archive: the path of DIR is too long\n");
        return EXIT_USAGE;
    }
    (void)sigaction(SIGINT, &stop, NULL);
    (void)sigaction(SIGTERM, &stop, NULL);
    return archive_run(&a);
}
