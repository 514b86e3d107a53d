/* Which snapshots there are, which are good, which are in use, and which may go. Header and trailer are looked at when
 * a file is found; the whole of it is only read by those who use it, and they report what they find
 * (snapshot_dir_mark_bad).
 *
 * Uses are by index and term, not by entry: a file that is being written has no entry yet, or that of the one it is to
 * replace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/snapshot_internal.h"

#define KEEP_GOOD 2u

struct entry {
    struct snapshot_info info;
    bool removing;
};

struct names {
    char (*items)[SNAPSHOT_NAME_BYTES];
    size_t n;
    size_t cap;
    bool no_memory;
};

struct snapshot_dir {
    struct env *env;
    struct entry *entries; /* newest first */
    size_t n;
    size_t cap;
    struct snapshot_use *uses;
    bool closing;
    bool removing;
    char remove_name[SNAPSHOT_NAME_BYTES];
    uint64_t remove_index;
    uint64_t remove_term;
    struct env_disk_req remove_req;
    /* What is older than this is being set aside; index 0: nothing is. */
    uint64_t aside_index;
    uint64_t aside_term;
    unsigned aside_n; /* so many are */
};

static bool is_newer(const struct snapshot_info *info, uint64_t index, uint64_t term)
{
    return info->index != index ? info->index > index : info->term > term;
}

static struct entry *find(const struct snapshot_dir *dir, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < dir->n; i++) {
        if (dir->entries[i].info.index == index && dir->entries[i].info.term == term) {
            return &dir->entries[i];
        }
    }
    return NULL;
}

static bool insert(struct snapshot_dir *dir, const struct snapshot_info *info)
{
    if (dir->n == dir->cap) {
        size_t cap = dir->cap == 0 ? 8 : dir->cap * 2;
        struct entry *entries = realloc(dir->entries, cap * sizeof *entries);
        if (entries == NULL) {
            return false;
        }
        dir->entries = entries;
        dir->cap = cap;
    }
    size_t at = 0;
    while (at < dir->n && is_newer(&dir->entries[at].info, info->index, info->term)) {
        at++;
    }
    memmove(&dir->entries[at + 1], &dir->entries[at], (dir->n - at) * sizeof *dir->entries);
    dir->entries[at] = (struct entry){.info = *info};
    dir->n++;
    return true;
}

static void take_out(struct snapshot_dir *dir, struct entry *entry)
{
    size_t at = (size_t)(entry - dir->entries);
    dir->n--;
    memmove(&dir->entries[at], &dir->entries[at + 1], (dir->n - at) * sizeof *dir->entries);
}

/* --- Judging ------------------------------------------------------------------------------------------------------ */

static enum snapshot_status judge_open(struct env *env, const char *name, struct env_file *file, uint64_t size,
                                       const char **what)
{
    struct snapshot_meta meta;
    struct snapshot_trailer trailer;
    uint64_t check;
    *what = "it was shortened";
    if (size % ENV_BLOCK != 0 || size < ENV_BLOCK + SNAPSHOT_TRAILER_BYTES) {
        return SNAPSHOT_DAMAGED;
    }
    uint8_t *buf = snapshot_alloc(SNAPSHOT_HEADER_BYTES_MAX);
    if (buf == NULL) {
        *what = "out of memory";
        return SNAPSHOT_NO_MEMORY;
    }
    *what = "it can't be read: the disk reports an error";
    enum snapshot_status status = snapshot_status_of(env->ops->read_sync(env, file, 0, buf, ENV_BLOCK));
    size_t len = status == SNAPSHOT_OK ? snapshot_header_claim(buf) : 0;
    if (status == SNAPSHOT_OK && (len == 0 || len + SNAPSHOT_TRAILER_BYTES > size)) {
        *what = "its header is damaged";
        status = SNAPSHOT_DAMAGED;
    }
    if (status == SNAPSHOT_OK) {
        status = snapshot_status_of(env->ops->read_sync(env, file, 0, buf, len));
    }
    if (status == SNAPSHOT_OK) {
        status = snapshot_judge_header(name, buf, len, &meta, &check, what);
    }
    if (status == SNAPSHOT_OK) {
        /* `meta` borrows its configuration from the buffer, and only its id is used from here on. */
        status = snapshot_status_of(
            env->ops->read_sync(env, file, size - SNAPSHOT_TRAILER_BYTES, buf, SNAPSHOT_TRAILER_BYTES));
    }
    if (status == SNAPSHOT_OK) {
        status = snapshot_judge_trailer(buf, size, &meta, &trailer, what);
    }
    free(buf);
    return status;
}

static enum snapshot_status judge(struct env *env, const char *name, const char **what)
{
    struct env_file *file;
    uint64_t size;
    *what = "it can't be opened";
    enum env_status status = env->ops->open(env, name, &file, &size);
    if (status != ENV_OK) {
        return snapshot_status_of(status);
    }
    enum snapshot_status result = judge_open(env, name, file, size, what);
    env->ops->close(env, file);
    return result;
}

const char *snapshot_dir_error(const struct snapshot_dir *dir, uint64_t index, uint64_t term)
{
    static _Thread_local char text[SNAPSHOT_ERROR_BYTES];
    char name[SNAPSHOT_NAME_BYTES];
    const char *what;
    snapshot_name_format(name, index, term, "");
    const struct entry *entry = find(dir, index, term);
    if (judge(dir->env, name, &what) == SNAPSHOT_OK) {
        what = entry == NULL ? "it is not listed" : snapshot_status_text(entry->info.status);
    }
    snprintf(text, sizeof text, "%s: %s. %s", name, what, snapshot_advice);
    return text;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static void list_cb(void *ctx, const char *name, uint64_t size)
{
    struct names *names = ctx;
    (void)size;
    if (strncmp(name, "snapshot-", 9) != 0 || strlen(name) >= SNAPSHOT_NAME_BYTES) {
        return;
    }
    if (names->n == names->cap) {
        size_t cap = names->cap == 0 ? 8 : names->cap * 2;
        void *items = realloc(names->items, cap * sizeof *names->items);
        if (items == NULL) {
            names->no_memory = true;
            return;
        }
        names->items = items;
        names->cap = cap;
    }
    snprintf(names->items[names->n++], SNAPSHOT_NAME_BYTES, "%s", name);
}

static bool insert_found(struct snapshot_dir *dir, const char *name)
{
    struct snapshot_info info = {0};
    const char *what;
    if (!snapshot_name_parse(name, &info.index, &info.term)) {
        return true;
    }
    info.status = judge(dir->env, name, &what);
    struct env_file *file;
    if (dir->env->ops->open(dir->env, name, &file, &info.file_bytes) == ENV_OK) {
        dir->env->ops->close(dir->env, file);
    }
    if (info.status != SNAPSHOT_OK) {
        char text[SNAPSHOT_ERROR_BYTES];
        snprintf(text, sizeof text, "snapshot: %s: %s", name, what);
        dir->env->ops->log(dir->env, 1, text);
    }
    return insert(dir, &info);
}

#define STEM_BYTES 42u

/* The index and term of an unfinished file. */
static bool unfinished_parse(const char *name, const char *suffix, struct snapshot_info *info)
{
    char stem[SNAPSHOT_NAME_BYTES];
    snprintf(stem, sizeof stem, "%.*s", (int)STEM_BYTES, name);
    return strlen(name) > STEM_BYTES && strcmp(name + STEM_BYTES, suffix) == 0 &&
           snapshot_name_parse(stem, &info->index, &info->term);
}

/* Is this an unfinished file that nobody will continue? Of those that were being received only the newest may be. */
static bool is_leftover(const struct snapshot_dir *dir, const struct names *names, const char *name)
{
    struct snapshot_info info;
    struct snapshot_info other;
    if (unfinished_parse(name, ".tmp", &info)) {
        return true;
    }
    if (!unfinished_parse(name, ".part", &info)) {
        return false;
    }
    for (size_t i = 0; i < names->n; i++) {
        if (unfinished_parse(names->items[i], ".part", &other) && is_newer(&other, info.index, info.term)) {
            return true;
        }
    }
    const struct snapshot_info *newest = snapshot_dir_newest(dir);
    return newest != NULL && info.index <= newest->index;
}

static enum snapshot_status take_in(struct snapshot_dir *dir, const struct names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        if (!insert_found(dir, names->items[i])) {
            return SNAPSHOT_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < names->n; i++) {
        if (!is_leftover(dir, names, names->items[i])) {
            continue;
        }
        enum env_status status = dir->env->ops->remove_sync(dir->env, names->items[i]);
        if (status != ENV_OK && status != ENV_NOT_FOUND) {
            return snapshot_status_of(status);
        }
    }
    return SNAPSHOT_OK;
}

enum snapshot_status snapshot_dir_open(struct env *env, struct snapshot_dir **out)
{
    struct names names = {0};
    struct snapshot_dir *dir = calloc(1, sizeof *dir);
    if (dir == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    dir->env = env;
    enum snapshot_status status = snapshot_status_of(env->ops->list(env, list_cb, &names));
    if (status == SNAPSHOT_OK && names.no_memory) {
        status = SNAPSHOT_NO_MEMORY;
    }
    if (status == SNAPSHOT_OK) {
        status = take_in(dir, &names);
    }
    free(names.items);
    if (status != SNAPSHOT_OK) {
        snapshot_dir_close(dir);
        return status;
    }
    *out = dir;
    return SNAPSHOT_OK;
}

/* --- What is there ------------------------------------------------------------------------------------------------ */

const struct snapshot_info *snapshot_dir_at(const struct snapshot_dir *dir, size_t i)
{
    return i < dir->n ? &dir->entries[i].info : NULL;
}

const struct snapshot_info *snapshot_dir_newest(const struct snapshot_dir *dir)
{
    for (size_t i = 0; i < dir->n; i++) {
        if (dir->entries[i].info.status == SNAPSHOT_OK && !dir->entries[i].removing) {
            return &dir->entries[i].info;
        }
    }
    return NULL;
}

bool snapshot_dir_add(struct snapshot_dir *dir, uint64_t index, uint64_t term, uint64_t file_bytes)
{
    const struct snapshot_info info = {.index = index, .term = term, .file_bytes = file_bytes};
    struct entry *entry = find(dir, index, term);
    if (entry != NULL) {
        entry->info = info;
        return true;
    }
    return insert(dir, &info);
}

void snapshot_dir_mark_bad(struct snapshot_dir *dir, uint64_t index, uint64_t term, enum snapshot_status status)
{
    struct entry *entry = find(dir, index, term);
    assert(status != SNAPSHOT_OK);
    if (entry != NULL) {
        entry->info.status = status;
    }
}

/* --- Using -------------------------------------------------------------------------------------------------------- */

/* Does anybody use it? Writers are enough if `writes`. */
static bool is_used(const struct snapshot_dir *dir, uint64_t index, uint64_t term, bool writes)
{
    for (const struct snapshot_use *use = dir->uses; use != NULL; use = use->next) {
        if (use->index == index && use->term == term && (use->writes || !writes)) {
            return true;
        }
    }
    return false;
}

static void use_begin(struct snapshot_dir *dir, struct snapshot_use *use, const struct snapshot_use *what)
{
    assert(use->dir == NULL);
    *use = *what;
    use->dir = dir;
    use->next = dir->uses;
    dir->uses = use;
}

bool snapshot_dir_hold(struct snapshot_dir *dir, struct snapshot_use *use, uint64_t index, uint64_t term)
{
    const struct entry *entry = find(dir, index, term);
    if (entry == NULL || entry->removing || is_used(dir, index, term, true)) {
        return false;
    }
    use_begin(dir, use, &(struct snapshot_use){.index = index, .term = term});
    return true;
}

bool snapshot_dir_claim(struct snapshot_dir *dir, struct snapshot_use *use, uint64_t index, uint64_t term)
{
    const struct entry *entry = find(dir, index, term);
    if ((entry != NULL && entry->removing) || is_used(dir, index, term, false)) {
        return false;
    }
    use_begin(dir, use, &(struct snapshot_use){.index = index, .term = term, .writes = true});
    return true;
}

void snapshot_use_end(struct snapshot_use *use)
{
    struct snapshot_dir *dir = use->dir;
    if (dir == NULL) {
        return;
    }
    struct snapshot_use **at = &dir->uses;
    while (*at != use) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = use->next;
    use->dir = NULL;
    snapshot_dir_prune(dir);
}

/* --- Pruning ------------------------------------------------------------------------------------------------------ */

static const char *const aside_names[] = {SNAPSHOT_ASIDE_NEWEST, SNAPSHOT_ASIDE_OLDER};
#define ASIDE_NAMES (sizeof aside_names / sizeof *aside_names)

static void aside_next(struct snapshot_dir *dir);

/* The entry that a request was about; NULL: the directory was closed meanwhile, and is gone now. */
static struct entry *removing_ended(struct snapshot_dir *dir)
{
    dir->removing = false;
    if (dir->closing) {
        snapshot_dir_close(dir);
        return NULL;
    }
    struct entry *entry = find(dir, dir->remove_index, dir->remove_term);
    assert(entry != NULL);
    entry->removing = false;
    return entry;
}

static void remove_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_dir *dir = req->data;
    struct entry *entry = removing_ended(dir);
    if (entry == NULL) {
        return;
    }
    if (status != ENV_OK && status != ENV_NOT_FOUND) {
        if (status != ENV_CANCELED) {
            char text[120];
            snprintf(text, sizeof text, "snapshot: can't remove %s: %s", dir->remove_name,
                     snapshot_status_text(snapshot_status_of(status)));
            dir->env->ops->log(dir->env, 1, text);
        }
        return;
    }
    take_out(dir, entry);
    aside_next(dir);
    snapshot_dir_prune(dir);
}

static void aside_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_dir *dir = req->data;
    struct entry *entry = removing_ended(dir);
    if (entry == NULL) {
        return;
    }
    if (status == ENV_OK) {
        dir->aside_n++;
        take_out(dir, entry);
    } else {
        dir->aside_index = 0;
        if (status != ENV_CANCELED) {
            char text[120];
            snprintf(text, sizeof text, "snapshot: can't rename %s to %s", dir->remove_name, req->name_to);
            dir->env->ops->log(dir->env, 1, text);
        }
    }
    aside_next(dir);
    snapshot_dir_prune(dir);
}

/* The newest of those that are to be set aside. */
static struct entry *find_aside(const struct snapshot_dir *dir)
{
    for (size_t i = 0; i < dir->n; i++) {
        struct entry *entry = &dir->entries[i];
        const uint64_t index = entry->info.index;
        const bool older = index != dir->aside_index ? index < dir->aside_index : entry->info.term < dir->aside_term;
        if (older && !is_used(dir, index, entry->info.term, false)) {
            return entry;
        }
    }
    return NULL;
}

static void aside_next(struct snapshot_dir *dir)
{
    if (dir->removing || dir->aside_index == 0) {
        return;
    }
    struct entry *entry = dir->aside_n < ASIDE_NAMES ? find_aside(dir) : NULL;
    if (entry == NULL) {
        dir->aside_index = 0;
        return;
    }
    entry->removing = true;
    dir->removing = true;
    dir->remove_index = entry->info.index;
    dir->remove_term = entry->info.term;
    snapshot_name_format(dir->remove_name, entry->info.index, entry->info.term, "");
    dir->remove_req = (struct env_disk_req){.op = ENV_DISK_RENAME,
                                            .name = dir->remove_name,
                                            .name_to = aside_names[dir->aside_n],
                                            .data = dir,
                                            .cb = aside_done_cb};
    dir->env->ops->submit(dir->env, &dir->remove_req);
}

void snapshot_dir_set_aside(struct snapshot_dir *dir, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < dir->n; i++) {
        struct entry *entry = &dir->entries[i];
        if (!is_newer(&entry->info, index, term) && (entry->info.index != index || entry->info.term != term)) {
            entry->info.status = SNAPSHOT_DAMAGED; /* neither loaded nor sent */
        }
    }
    dir->aside_index = index;
    dir->aside_term = term;
    dir->aside_n = 0;
    aside_next(dir);
}

void snapshot_dir_prune(struct snapshot_dir *dir)
{
    unsigned good = 0;
    if (dir->removing) {
        return;
    }
    for (size_t i = 0; i < dir->n; i++) {
        struct entry *entry = &dir->entries[i];
        if (good >= KEEP_GOOD && !is_used(dir, entry->info.index, entry->info.term, false)) {
            entry->removing = true;
            dir->removing = true;
            dir->remove_index = entry->info.index;
            dir->remove_term = entry->info.term;
            snapshot_name_format(dir->remove_name, entry->info.index, entry->info.term, "");
            dir->remove_req = (struct env_disk_req){
                .op = ENV_DISK_REMOVE, .name = dir->remove_name, .data = dir, .cb = remove_done_cb};
            dir->env->ops->submit(dir->env, &dir->remove_req);
            return;
        }
        good += entry->info.status == SNAPSHOT_OK;
    }
}

void snapshot_dir_close(struct snapshot_dir *dir)
{
    if (dir == NULL) {
        return;
    }
    dir->closing = true;
    while (dir->uses != NULL) { /* files may be closed later than this */
        struct snapshot_use *use = dir->uses;
        dir->uses = use->next;
        use->dir = NULL;
    }
    if (!dir->removing) {
        free(dir->entries);
        free(dir);
    }
}
