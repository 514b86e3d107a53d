/* `lockstep dump`: log entries, headers and content, in a form that people read. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/artifact.h"
#include "cmd/lockstep/command.h"
#include "cmd/lockstep/content.h"
#include "cmd/lockstep/dump_keys.h"
#include "cmd/lockstep/entries.h"
#include "cmd/lockstep/options.h"
#include "cmd/lockstep/point.h"
#include "cmd/lockstep/reply.h"
#include "consensus/configuration.h"
#include "consensus/replica.h"

static const char usage_text[] =
    "Usage: lockstep dump [OPTION]... PATH\n"
    "Print log entries with their commands, and what backups and snapshots say of themselves. PATH is as for\n"
    "`lockstep verify`; of a data directory or an archive everything is printed. Nothing is changed.\n"
    "\n"
    "  --from I  entries from index I on\n"
    "  --to J    entries up to index J\n"
    "  --keys    of a backup or snapshot: its keys with type, revision, deadline (ms since 1970) and value\n"
    "  --json    one object per line: header, entry or key; bytes that are no UTF-8 stand as \\u00XX, with\n"
    "            \"binary\": true beside them\n"
    "  --help    show this\n"
    "\n"
    "Arguments are quoted as redis-cli does. An entry of a log may be uncommitted: whether it is, no file tells.\n"
    "Exit codes: 0 all was printed; 1 something can't be read, and the message says what; 2 wrong command line; 3 "
    "there\n"
    "is the rest of a torn write, or a gap, which is told on stderr.\n";

struct dump {
    uint64_t from, to;
    bool keys, json;
    int code; /* exit code so far */
};

static void trouble(struct dump *d, int code, const char *path, const char *text)
{
    (void)fflush(stdout);
    fprintf(stderr, "lockstep dump: %s: %s\n", path, text);
    d->code = d->code == EXIT_FAILED ? d->code : code;
}

static void json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

/* --- Entries ------------------------------------------------------------------------------------------------------ */

static void words_print(const struct iovec *argv, unsigned argc)
{
    for (unsigned i = 0; i < argc; i++) {
        putchar(' ');
        if (i == 0) {
            (void)fwrite(argv[i].iov_base, 1, argv[i].iov_len, stdout);
        } else {
            reply_print_quoted(stdout, argv[i].iov_base, argv[i].iov_len);
        }
    }
    putchar('\n');
}

static json_t *words_json(const struct iovec *argv, unsigned argc, bool *binary)
{
    json_t *words = json_array();
    for (unsigned i = 0; i < argc; i++) {
        json_array_append_new(words, dump_bytes_json(argv[i].iov_base, argv[i].iov_len, binary));
    }
    return words;
}

static void transaction_print(const struct store_entry_reader *r)
{
    printf("  multi");
    for (unsigned i = 0; i < r->n_watches; i++) {
        printf(" watch:");
        reply_print_quoted(stdout, r->watches[i].key.iov_base, r->watches[i].key.iov_len);
        printf("@%" PRIu64, r->watches[i].revision);
    }
    putchar('\n');
    for (unsigned i = 0; i < r->n_commands; i++) {
        printf("   ");
        words_print(r->commands[i].argv, r->commands[i].argc);
    }
    puts("  exec");
}

static json_t *transaction_json(const struct store_entry_reader *r, bool *binary)
{
    json_t *watches = json_array(), *commands = json_array();
    for (unsigned i = 0; i < r->n_watches; i++) {
        json_t *key = dump_bytes_json(r->watches[i].key.iov_base, r->watches[i].key.iov_len, binary);
        json_array_append_new(watches,
                              json_pack("{s:o, s:I}", "key", key, "revision", (json_int_t)r->watches[i].revision));
    }
    for (unsigned i = 0; i < r->n_commands; i++) {
        json_array_append_new(commands, words_json(r->commands[i].argv, r->commands[i].argc, binary));
    }
    return json_pack("{s:o, s:o}", "watch", watches, "multi", commands);
}

static void commands_print(const struct wal_entry *entry)
{
    struct store_entry_reader r;
    char when[40];
    point_format_time(when, store_entry_time_ms(entry->data, entry->len));
    printf(" time %s\n", when);
    store_entry_reader_init(&r, entry->data, entry->len);
    while (store_entry_next(&r)) {
        if (r.transaction) {
            transaction_print(&r);
        } else {
            putchar(' ');
            words_print(r.argv, r.argc);
        }
    }
    store_entry_reader_fini(&r);
}

static void commands_json(const struct wal_entry *entry, json_t *object)
{
    struct store_entry_reader r;
    json_t *commands = json_array();
    bool binary = false;
    store_entry_reader_init(&r, entry->data, entry->len);
    while (store_entry_next(&r)) {
        json_array_append_new(commands,
                              r.transaction ? transaction_json(&r, &binary) : words_json(r.argv, r.argc, &binary));
    }
    store_entry_reader_fini(&r);
    json_object_set_new(object, "time_ms", json_integer((json_int_t)store_entry_time_ms(entry->data, entry->len)));
    json_object_set_new(object, "commands", commands);
    if (binary) {
        json_object_set_new(object, "binary", json_true());
    }
}

/* The servers and settings of a configuration entry; text or JSON. NULL: it is not understood. */
static json_t *configuration_json(const void *data, size_t len)
{
    struct configuration_server servers[REPLICA_SERVERS_MAX];
    struct configuration_settings s;
    if (!configuration_check(data, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &s)) {
        return NULL;
    }
    const unsigned n = configuration_servers(data, servers, REPLICA_SERVERS_MAX);
    json_t *list = json_array();
    for (unsigned i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:I, s:s, s:b}", "id", (json_int_t)servers[i].id, "address",
                                              servers[i].address, "voter", servers[i].voter));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "servers", list, "election_timeout_ms",
                     (json_int_t)s.election_timeout_ms, "heartbeat_ms", (json_int_t)s.heartbeat_ms,
                     "clock_rate_error_ppm", (json_int_t)s.rho_ppm, "feature_level", (json_int_t)s.feature_level,
                     "next_id", (json_int_t)s.next_id);
}

static void configuration_print(const void *data, size_t len)
{
    struct configuration_server servers[REPLICA_SERVERS_MAX];
    struct configuration_settings s;
    if (!configuration_check(data, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &s)) {
        puts("  not understood");
        return;
    }
    const unsigned n = configuration_servers(data, servers, REPLICA_SERVERS_MAX);
    for (unsigned i = 0; i < n; i++) {
        printf("  node %" PRIu64 " %s %s\n", servers[i].id, servers[i].address, servers[i].voter ? "voter" : "learner");
    }
    printf("  election-timeout %u ms, heartbeat %u ms, clock-rate-error %u ppm, feature level %u, next id %" PRIu64
           "\n",
           s.election_timeout_ms, s.heartbeat_ms, s.rho_ppm, s.feature_level, s.next_id);
}

static const char *type_name(enum wal_entry_type type)
{
    return type == WAL_COMMAND ? "command" : type == WAL_BARRIER ? "barrier" : "configuration";
}

static void entry_print(const struct dump *d, const struct wal_entry *entry)
{
    const bool good = entry->type != WAL_COMMAND || store_entry_check(entry->data, entry->len) == STORE_OK;
    if (d->json) {
        json_t *object =
            json_pack("{s:I, s:I, s:s, s:I}", "index", (json_int_t)entry->index, "term", (json_int_t)entry->term,
                      "type", type_name(entry->type), "bytes", (json_int_t)entry->len);
        if (!good) {
            json_object_set_new(object, "error", json_string("not understood by this version"));
        } else if (entry->type == WAL_COMMAND) {
            commands_json(entry, object);
        } else if (entry->type == WAL_CHANGE) {
            json_t *c = configuration_json(entry->data, entry->len);
            json_object_set_new(object, "configuration", c != NULL ? c : json_null());
        }
        json_line(object);
        return;
    }
    printf("%" PRIu64 " term %" PRIu64 " %s", entry->index, entry->term, type_name(entry->type));
    if (!good) {
        puts(": not understood by this version");
    } else if (entry->type == WAL_COMMAND) {
        commands_print(entry);
    } else {
        putchar('\n');
        if (entry->type == WAL_CHANGE) {
            configuration_print(entry->data, entry->len);
        }
    }
}

static void entries_print(struct dump *d, struct entries *entries, const char *path)
{
    struct wal_entry entry;
    enum entries_state state;
    while ((state = entries_next(entries, &entry)) == ENTRIES_MORE || state == ENTRIES_GAP) {
        if (state == ENTRIES_GAP) {
            trouble(d, EXIT_PARTLY, path, entries->error);
            continue;
        }
        if (entry.index > d->to) {
            return;
        }
        if (entry.index >= d->from) {
            entry_print(d, &entry);
        }
    }
    if (state != ENTRIES_END) {
        trouble(d, state == ENTRIES_TORN ? EXIT_PARTLY : EXIT_FAILED, path, entries->error);
    }
}

/* --- Snapshots ---------------------------------------------------------------------------------------------------- */

static void hex(char *text, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void header_print(const struct dump *d, const struct content *content, const char *path)
{
    const struct snapshot_meta *m = &content->meta;
    char cluster[33], file_id[33], digest[17], when[40];
    hex(cluster, m->cluster, 16);
    hex(file_id, m->file_id, 16);
    point_format_time(when, m->cluster_time_ms);
    snprintf(digest, sizeof digest, "%016" PRIx64, content->end.digest);
    if (d->json) {
        json_t *c = m->configuration_len > 0 ? configuration_json(m->configuration, m->configuration_len) : NULL;
        json_line(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "snapshot", path,
                            "index", (json_int_t)m->index, "term", (json_int_t)m->term, "revision",
                            (json_int_t)m->revision, "time_ms", (json_int_t)m->cluster_time_ms, "digest", digest,
                            "cluster", cluster, "file_id", file_id, "feature_level", (json_int_t)m->feature_level,
                            "bytes", (json_int_t)content->end.file_bytes, "payload_bytes",
                            (json_int_t)content->end.payload_bytes, "configuration_index",
                            (json_int_t)m->configuration_index, "configuration", c != NULL ? c : json_null()));
        return;
    }
    printf("snapshot %s\n  index %" PRIu64 ", term %" PRIu64 ", revision %" PRIu64 ", time %s\n", path, m->index,
           m->term, m->revision, when);
    printf("  digest %s, cluster %s, file %s, feature level %u\n", digest, cluster, file_id, m->feature_level);
    printf("  %" PRIu64 " bytes in %" PRIu64 " blocks, of content %" PRIu64 "; configuration of entry %" PRIu64 ":\n",
           content->end.file_bytes, content->end.blocks, content->end.payload_bytes, m->configuration_index);
    if (m->configuration_len > 0) {
        configuration_print(m->configuration, m->configuration_len);
    }
}

static void snapshot_print(struct dump *d, struct env *env, const char *name, const char *path)
{
    struct content content;
    if (!content_read(&content, env, name, d->keys ? CONTENT_LOADED : CONTENT_HEADERS, NULL)) {
        trouble(d, EXIT_FAILED, path, content.error);
    } else {
        header_print(d, &content, path);
        if (d->keys && !dump_keys(content.store, d->json)) {
            trouble(d, EXIT_FAILED, path, "out of memory");
        }
    }
    content_fini(&content);
}

static void snapshot_file_print(struct dump *d, const char *path)
{
    const struct file_env_config config = {.file = path, .mode = FILE_ENV_FROZEN};
    char error[FILE_ENV_ERROR_MAX], name[SNAPSHOT_NAME_BYTES];
    struct env *env = file_env_new(&config, error);
    if (env == NULL) {
        trouble(d, EXIT_FAILED, path, error);
        return;
    }
    snprintf(name, sizeof name, "%s", artifact_basename(path));
    snapshot_print(d, env, name, path);
    file_env_free(env);
}

/* --- Directories -------------------------------------------------------------------------------------------------- */

static void state_print(const struct dump *d, const struct datadir *dir)
{
    const struct slots_state *s = &dir->state;
    char cluster[33], incarnation[17];
    hex(cluster, s->cluster, 16);
    snprintf(incarnation, sizeof incarnation, "%016" PRIx64, s->incarnation);
    if (d->json) {
        json_line(json_pack("{s:I, s:s, s:I, s:I, s:I, s:s}", "node", (json_int_t)s->id, "cluster", cluster, "term",
                            (json_int_t)s->term, "vote", (json_int_t)s->vote, "starts", (json_int_t)s->starts,
                            "incarnation", incarnation));
        return;
    }
    printf("state: node %" PRIu64 " of cluster %s, term %" PRIu64 ", vote %" PRIu64 ", %" PRIu64
           " starts, incarnation %s\n",
           s->id, cluster, s->term, s->vote, s->starts, incarnation);
}

static void datadir_print(struct dump *d, const char *path)
{
    char error[DATADIR_ERROR_MAX];
    struct datadir dir;
    if (!datadir_open(&dir, path, error)) {
        trouble(d, EXIT_FAILED, path, error);
        return;
    }
    if (dir.slots_status == SLOTS_OK) {
        state_print(d, &dir);
    } else {
        trouble(d, EXIT_FAILED, path, dir.slots_error);
    }
    for (size_t i = 0; snapshot_dir_at(dir.snapshots, i) != NULL; i++) {
        const struct snapshot_info *info = snapshot_dir_at(dir.snapshots, i);
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name_format(name, info->index, info->term, "");
        snapshot_print(d, dir.env, name, name);
    }
    const struct snapshot_info *newest = snapshot_dir_newest(dir.snapshots);
    const uint64_t index = newest != NULL ? newest->index : 0, term = newest != NULL ? newest->term : 0;
    if (dir.wal_files > 0 && datadir_open_wal(&dir, index, term, error) != WAL_OK) {
        trouble(d, EXIT_FAILED, path, error);
    } else if (dir.wal_files > 0) {
        struct entries entries;
        entries_open_log(&entries, &dir, d->from);
        entries_print(d, &entries, path);
        entries_close(&entries);
    }
    datadir_close(&dir);
}

struct archive_dump {
    struct dump *d;
    struct env *env;
};

static void archive_snapshot_cb(void *ctx, const char *name, uint64_t size)
{
    struct archive_dump *a = ctx;
    uint64_t index, term;
    (void)size;
    if (snapshot_name_parse(name, &index, &term)) {
        snapshot_print(a->d, a->env, name, name);
    }
}

static void archive_print(struct dump *d, const char *path)
{
    const struct file_env_config config = {.dir = path, .mode = FILE_ENV_FROZEN};
    char error[FILE_ENV_ERROR_MAX];
    struct archive_dump a = {d, file_env_new(&config, error)};
    struct entries entries;
    if (a.env == NULL) {
        trouble(d, EXIT_FAILED, path, error);
        return;
    }
    (void)a.env->ops->list(a.env, archive_snapshot_cb, &a);
    if (entries_open_archive(&entries, path, d->from)) {
        entries_print(d, &entries, path);
    } else {
        trouble(d, EXIT_FAILED, path, entries.error);
    }
    entries_close(&entries);
    file_env_free(a.env);
}

static void entries_file_print(struct dump *d, enum artifact kind, const char *path)
{
    struct entries entries;
    if (kind == ARTIFACT_SEGMENT ? entries_open_segment(&entries, path) : entries_open_archive_file(&entries, path)) {
        entries_print(d, &entries, path);
    } else {
        trouble(d, EXIT_FAILED, path, entries.error);
    }
    entries_close(&entries);
}

static void path_print(struct dump *d, const char *path)
{
    const enum artifact kind = artifact_of(path);
    switch (kind) {
    case ARTIFACT_NONE:
        trouble(d, EXIT_FAILED, path, strerror(errno));
        break;
    case ARTIFACT_UNKNOWN:
        trouble(d, EXIT_FAILED, path, "it is no file or directory of Lockstep");
        break;
    case ARTIFACT_NODES:
        trouble(d, EXIT_FAILED, path, "it is text: read it as it is (`lockstep verify` checks it)");
        break;
    case ARTIFACT_SLOTS:
        trouble(d, EXIT_FAILED, path, "give the data directory that it lies in");
        break;
    case ARTIFACT_DATADIR:
        datadir_print(d, path);
        break;
    case ARTIFACT_ARCHIVE:
        archive_print(d, path);
        break;
    case ARTIFACT_SNAPSHOT:
        snapshot_file_print(d, path);
        break;
    case ARTIFACT_ENTRIES:
    case ARTIFACT_SEGMENT:
        entries_file_print(d, kind, path);
        break;
    }
}

int command_dump(int argc, char **argv)
{
    struct dump d = {.to = UINT64_MAX};
    const struct option_rule rules[] = {{.name = "from", .u64 = &d.from, .min = 0, .max = INT64_MAX},
                                        {.name = "to", .u64 = &d.to, .min = 0, .max = INT64_MAX},
                                        {.name = "keys", .flag = &d.keys},
                                        {.name = "json", .flag = &d.json},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "PATH", .operands_min = 1, .operands_max = 1};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    path_print(&d, argv[optind]);
    return d.code;
}
