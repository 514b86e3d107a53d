/* Base and entries: the newest base that is not beyond the point, then the entries behind it, one by one. */
#include "cmd/lockstep/point.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/lockstep/artifact.h"
#include "cmd/lockstep/entries.h"
#include "consensus/configuration.h"
#include "consensus/replica.h"

#define BASES_MAX 1024

struct base {
    uint64_t index, term;
};

struct search {
    const char *path;
    const struct point *point;
    struct content *content;
    char *error;
    void (*progress)(uint64_t done, uint64_t of);
    struct base bases[BASES_MAX]; /* newest first */
    unsigned n_bases;
    uint64_t next_time_ms; /* of the first entry left out because of its time, 0: none */
};

static bool fail(struct search *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct search *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->error, POINT_ERROR_MAX, format, args);
    va_end(args);
    return false;
}

void point_format_time(char text[40], uint64_t ms)
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char date[24];
    if (gmtime_r(&seconds, &tm) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        snprintf(text, 40, "%" PRIu64 "ms", ms);
        return;
    }
    snprintf(text, 40, "%s.%03uZ", date, (unsigned)(ms % 1000));
}

bool point_parse_time(const char *text, uint64_t *ms)
{
    struct tm tm = {0};
    unsigned milliseconds = 0;
    char *end;
    errno = 0;
    *ms = strtoull(text, &end, 10);
    if (end != text && *end == '\0' && errno == 0 && text[0] != '-') {
        return true;
    }
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int used = 0;
    if (rest != NULL && *rest == '.') {
        if (sscanf(rest, ".%3u%n", &milliseconds, &used) != 1 || used != 4) {
            return false;
        }
        rest += used;
    }
    const time_t seconds = rest != NULL && strcmp(rest, "Z") == 0 ? timegm(&tm) : -1;
    *ms = (uint64_t)seconds * 1000 + milliseconds;
    return seconds >= 0;
}

/* --- The point ---------------------------------------------------------------------------------------------------- */

static bool is_beyond(const struct point *point, const struct snapshot_meta *meta)
{
    return (point->by_revision && meta->revision > point->revision) ||
           (point->by_time && meta->cluster_time_ms > point->time_ms);
}

static bool is_reached(const struct search *s)
{
    return s->next_time_ms != 0 || (s->point->by_revision && store_revision(s->content->store) == s->point->revision);
}

/* The last configuration is part of what a base says of itself. */
static bool keep_configuration(struct content *content, const struct wal_entry *entry)
{
    void *copy = malloc(entry->len);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, entry->data, entry->len);
    free(content->configuration);
    content->configuration = copy;
    content->meta.configuration = copy;
    content->meta.configuration_len = (uint32_t)entry->len;
    content->meta.configuration_index = entry->index;
    return true;
}

static bool take_entry(struct search *s, const struct wal_entry *entry)
{
    struct content *content = s->content;
    const uint64_t time_ms = entry->type == WAL_COMMAND ? store_entry_time_ms(entry->data, entry->len) : 0;
    if (s->point->by_time && time_ms > s->point->time_ms) {
        s->next_time_ms = time_ms;
        return true;
    }
    const bool ok =
        s->point->by_revision ? content_apply_until(content, entry, s->point->revision) : content_apply(content, entry);
    if (!ok) {
        return fail(s, "%.500s", content->error);
    }
    return entry->type != WAL_CHANGE || keep_configuration(content, entry) || fail(s, "out of memory");
}

static bool take_entries(struct search *s, struct entries *entries)
{
    struct wal_entry entry;
    enum entries_state state = ENTRIES_END;
    while (!is_reached(s) && (state = entries_next(entries, &entry)) == ENTRIES_MORE) {
        if (entry.index == s->content->meta.index && entry.term != s->content->meta.term) {
            return fail(s,
                        "%s: entry %" PRIu64 " is of term %" PRIu64 ", and the base backup up to it of term %" PRIu64
                        ": they are not of one history; report this",
                        s->path, entry.index, entry.term, s->content->meta.term);
        }
        if (entry.index > s->content->meta.index && !take_entry(s, &entry)) {
            return false;
        }
    }
    if (!is_reached(s) && (state == ENTRIES_FAILED || state == ENTRIES_GAP)) {
        return fail(s, "%.1000s", entries->error);
    }
    return true;
}

/* All there is was taken. */
static bool judge(struct search *s)
{
    char last[40];
    const struct snapshot_meta *meta = &s->content->meta;
    if (s->point->by_revision && store_revision(s->content->store) != s->point->revision) {
        return fail(s, "%s ends with revision %" PRIu64 " (entry %" PRIu64 "): revision %" PRIu64 " is not in it",
                    s->path, store_revision(s->content->store), meta->index, s->point->revision);
    }
    if (s->point->by_time && s->next_time_ms == 0 && meta->cluster_time_ms != s->point->time_ms) {
        point_format_time(last, meta->cluster_time_ms);
        return fail(s,
                    "%s ends at %s (%" PRIu64
                    " ms): what came between that and the time asked for is not in it. To get "
                    "all there is, leave the time out",
                    s->path, last, meta->cluster_time_ms);
    }
    return true;
}

/* --- Sources ------------------------------------------------------------------------------------------------------ */

static bool from_backup(struct search *s)
{
    const struct file_env_config config = {.file = s->path, .mode = FILE_ENV_FROZEN};
    char name[SNAPSHOT_NAME_BYTES], why[FILE_ENV_ERROR_MAX];
    struct env *env = file_env_new(&config, why);
    if (env == NULL) {
        return fail(s, "%s", why);
    }
    snprintf(name, sizeof name, "%s", artifact_basename(s->path));
    bool ok = content_read(s->content, env, name, CONTENT_LOADED, s->progress) || fail(s, "%s", s->content->error);
    file_env_free(env);
    const struct snapshot_meta *meta = &s->content->meta;
    if (ok && (is_beyond(s->point, meta) || (s->point->by_revision && meta->revision != s->point->revision) ||
               (s->point->by_time && meta->cluster_time_ms != s->point->time_ms))) {
        ok = fail(s,
                  "%s is a single backup, of revision %" PRIu64 " and cluster time %" PRIu64
                  " ms: another revision or time takes an archive (lockstep archive)",
                  s->path, meta->revision, meta->cluster_time_ms);
    }
    return ok;
}

static int base_compare(const void *a, const void *b)
{
    const struct base *x = a, *y = b;
    return x->index > y->index ? -1 : x->index < y->index;
}

static void base_cb(void *ctx, const char *name, uint64_t size)
{
    struct search *s = ctx;
    struct base base;
    (void)size;
    if (s->n_bases < BASES_MAX && snapshot_name_parse(name, &base.index, &base.term)) {
        s->bases[s->n_bases++] = base;
    }
}

/* The newest base that is good and not beyond the point. */
static bool load_base(struct search *s, struct env *env, uint64_t first)
{
    char name[SNAPSHOT_NAME_BYTES], skipped[CONTENT_ERROR_MAX + 4] = "", oldest[120] = "", when[40];
    for (unsigned i = 0; i < s->n_bases; i++) {
        struct content head;
        snapshot_name_format(name, s->bases[i].index, s->bases[i].term, "");
        const bool readable = content_read(&head, env, name, CONTENT_HEADERS, NULL);
        const bool fits = readable && !is_beyond(s->point, &head.meta);
        if (!readable) {
            snprintf(skipped, sizeof skipped, " (%s)", head.error);
        } else if (!fits) {
            point_format_time(when, head.meta.cluster_time_ms);
            snprintf(oldest, sizeof oldest, ": the oldest is of revision %" PRIu64 ", %s", head.meta.revision, when);
        }
        content_fini(&head);
        if (!fits) {
            continue;
        }
        if (content_read(s->content, env, name, CONTENT_LOADED, s->progress)) {
            if (skipped[0] != '\0') {
                fprintf(stderr, "lockstep: using an older base backup%s\n", skipped);
            }
            return true;
        }
        snprintf(skipped, sizeof skipped, " (%s)", s->content->error);
        content_fini(s->content);
    }
    if (first == 1) {
        return content_empty(s->content) || fail(s, "out of memory");
    }
    return fail(s, "%s holds no base backup from before that point%s%s", s->path, oldest, skipped);
}

static bool from_archive(struct search *s)
{
    const struct file_env_config config = {.dir = s->path, .mode = FILE_ENV_FROZEN};
    struct entries entries;
    struct env *env = file_env_new(&config, s->error);
    if (env == NULL) {
        return false;
    }
    (void)env->ops->list(env, base_cb, s);
    qsort(s->bases, s->n_bases, sizeof s->bases[0], base_compare);
    bool ok = load_base(s, env, 0);
    if (ok) {
        const struct snapshot_meta *base = &s->content->meta;
        ok = entries_open_archive_behind(&entries, s->path, base->index + 1, base->cluster, base->term)
                 ? take_entries(s, &entries)
                 : fail(s, "%s", entries.error);
        entries_close(&entries);
    }
    file_env_free(env);
    return ok && judge(s);
}

static bool from_datadir(struct search *s)
{
    struct datadir d;
    struct entries entries;
    char why[DATADIR_ERROR_MAX];
    if (!datadir_open(&d, s->path, why)) {
        return fail(s, "%s", why);
    }
    for (size_t i = 0; snapshot_dir_at(d.snapshots, i) != NULL && s->n_bases < BASES_MAX; i++) {
        const struct snapshot_info *info = snapshot_dir_at(d.snapshots, i);
        s->bases[s->n_bases++] = (struct base){info->index, info->term};
    }
    const struct snapshot_info *newest = snapshot_dir_newest(d.snapshots);
    bool ok =
        datadir_open_wal(&d, newest != NULL ? newest->index : 0, newest != NULL ? newest->term : 0, why) == WAL_OK ||
        fail(s, "%s", why);
    ok = ok && load_base(s, d.env, wal_first(d.wal));
    if (ok) {
        entries_open_log(&entries, &d, s->content->meta.index + 1);
        ok = take_entries(s, &entries);
        entries_close(&entries);
    }
    if (ok && d.slots_status == SLOTS_OK) {
        memcpy(s->content->meta.cluster, d.state.cluster, sizeof d.state.cluster);
    }
    datadir_close(&d);
    return ok && judge(s);
}

bool point_load(const char *path, const struct point *point, struct content *content, char error[POINT_ERROR_MAX],
                void (*progress)(uint64_t done, uint64_t of))
{
    struct search *s = calloc(1, sizeof *s);
    bool ok = false;
    memset(content, 0, sizeof *content);
    snprintf(error, POINT_ERROR_MAX, "out of memory");
    if (s == NULL) {
        return false;
    }
    s->path = path;
    s->point = point;
    s->content = content;
    s->error = error;
    s->progress = progress;
    switch (artifact_of(path)) {
    case ARTIFACT_SNAPSHOT:
        ok = from_backup(s);
        break;
    case ARTIFACT_ARCHIVE:
        ok = from_archive(s);
        break;
    case ARTIFACT_DATADIR:
        ok = from_datadir(s);
        break;
    case ARTIFACT_NONE:
        ok = fail(s, "%s: %s", path, strerror(errno));
        break;
    default:
        ok = fail(s, "%s is neither a backup nor a directory with one", path);
    }
    free(s);
    return ok;
}
