/* The node is asked for aligned windows of the file; pieces are cut out of them, and handed to the receiver that nodes
 * use among themselves (consensus/snapshot.h), which checks each, continues a partial file, and reads it back whole. */
#include "cmd/lockstep/fetch.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consensus/snapshot_format.h"

#define WINDOW_BYTES ((uint64_t)1 << 20)
#define ATTEMPTS 5u
#define TAKE_TIMEOUT_MS 600000u
#define CATCH_UP_S 30

static bool fail(struct fetch *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct fetch *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->error, sizeof f->error, format, args);
    va_end(args);
    return false;
}

static void nap(unsigned ms)
{
    const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* --- Which snapshot ----------------------------------------------------------------------------------------------- */

/* What was acknowledged is committed at the leader; the node must have applied that much. */
static bool catch_up(struct fetch *f, uint64_t commit)
{
    const time_t until = time(NULL) + CATCH_UP_S;
    char error[CONNECTION_ERROR_MAX] = "out of memory";
    struct node_status *status = malloc(sizeof *status);
    bool done = false, up = status != NULL;
    while (!done && up && time(NULL) <= until) {
        up = node_status_fetch(&f->address, f->timeout_ms, status, error);
        done = up && status->applied >= commit;
        if (!done) {
            nap(20);
        }
    }
    free(status);
    if (!up) {
        return fail(f, "%s:%u: %s", f->address.host, f->address.port, error);
    }
    return done || fail(f, "%s:%u has not applied entry %" PRIu64 " within %d s: try another node with --addr",
                        f->address.host, f->address.port, commit, CATCH_UP_S);
}

static bool choose(struct fetch *f, const struct seeds *seeds, bool exactly)
{
    struct cluster_view view;
    char error[CONNECTION_ERROR_MAX];
    if (!cluster_view_get(&view, seeds, f->timeout_ms, error)) {
        return fail(f, "%s", error);
    }
    const struct cluster_node *node = cluster_view_follower(&view);
    const uint64_t commit = view.leader != NULL ? view.leader->status.commit : 0;
    bool ok = true;
    f->address = seeds->at[0];
    if (!exactly && node != NULL) {
        f->address = node->member.address;
    }
    if (view.leader == NULL) {
        ok = fail(f, "no leader is known: nobody can tell what was acknowledged; try again");
    }
    cluster_view_free(&view);
    return ok && catch_up(f, commit);
}

static bool numbers_read(struct reply_cursor *cursor, uint64_t *values, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct reply_item item;
        if (!reply_next(cursor, &item) || item.type != ':' || item.integer < 0) {
            return false;
        }
        values[i] = (uint64_t)item.integer;
    }
    return true;
}

bool fetch_take(struct fetch *f, const struct seeds *seeds, bool exactly)
{
    static const char *const words[] = {"LOCKSTEP", "SNAPSHOT", "TAKE"};
    char error[CONNECTION_ERROR_MAX];
    struct reply_cursor cursor;
    struct reply_item item;
    uint64_t values[3];
    const char *data;
    size_t len;
    if (!choose(f, seeds, exactly)) {
        return false;
    }
    struct connection *c = connection_open(&f->address, TAKE_TIMEOUT_MS, true, error);
    if (c == NULL) {
        return fail(f, "%s:%u: %s", f->address.host, f->address.port, error);
    }
    bool ok = connection_send(c, 3, words, NULL) && connection_read(c, &data, &len);
    if (!ok) {
        (void)fail(f, "%s:%u: %s", f->address.host, f->address.port, connection_error(c));
    } else {
        reply_begin(&cursor, data, len);
        ok = reply_next(&cursor, &item) && item.type == '*' && numbers_read(&cursor, values, 3);
        if (!ok) {
            (void)fail(f, "%s:%u takes no snapshot: %.*s", f->address.host, f->address.port,
                       item.type == '-' && item.len < 400 ? (int)item.len : 0, item.text);
        }
    }
    connection_close(c);
    f->index = ok ? values[0] : 0;
    f->term = ok ? values[1] : 0;
    f->bytes = ok ? values[2] : 0;
    return ok;
}

/* Does the node list it? */
static bool node_has(struct fetch *f, const struct address *address, uint64_t index, uint64_t term)
{
    static const char *const words[] = {"LOCKSTEP", "SNAPSHOT", "LIST"};
    char error[CONNECTION_ERROR_MAX];
    struct reply_cursor cursor;
    struct reply_item item;
    const char *data;
    size_t len;
    bool found = false;
    struct connection *c = connection_open(address, f->timeout_ms, true, error);
    if (c == NULL) {
        return false;
    }
    if (connection_send(c, 3, words, NULL) && connection_read(c, &data, &len)) {
        reply_begin(&cursor, data, len);
        uint64_t values[3];
        bool more = reply_next(&cursor, &item) && item.type == '*';
        while (more && !found && (more = reply_next(&cursor, &item) && numbers_read(&cursor, values, 3))) {
            found = values[0] == index && values[1] == term;
        }
        if (found) {
            f->address = *address;
            f->index = index;
            f->term = term;
            f->bytes = values[2];
        }
    }
    connection_close(c);
    return found;
}

bool fetch_find(struct fetch *f, const struct seeds *seeds, uint64_t index, uint64_t term)
{
    struct cluster_view view;
    char error[CONNECTION_ERROR_MAX];
    bool found = false;
    if (!cluster_view_get(&view, seeds, f->timeout_ms, error)) {
        return false;
    }
    for (unsigned i = 0; !found && i < view.n; i++) {
        found = view.nodes[i].up && node_has(f, &view.nodes[i].member.address, index, term);
    }
    cluster_view_free(&view);
    return found;
}

/* --- Pulling ------------------------------------------------------------------------------------------------------ */

struct pull {
    struct fetch *fetch;
    struct env *env;
    struct connection *connection;
    struct snapshot_receiver *receiver;
    uint8_t *header; /* SNAPSHOT_HEADER_BYTES_MAX at most */
    size_t header_len;
    const uint8_t *window; /* borrowed from the connection */
    uint64_t window_offset;
    size_t window_len;
    bool opened, ready, done, ok;
    bool damaged; /* the node's bytes are not good: another attempt is of no use */
    time_t told;
};

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_position *next)
{
    struct pull *p = ctx;
    (void)meta;
    p->opened = true;
    p->fetch->resumed = p->fetch->resumed || next->number > 0;
}

static void ready_cb(void *ctx)
{
    ((struct pull *)ctx)->ready = true;
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct pull *p = ctx;
    (void)end;
    p->done = true;
    p->ok = status == SNAPSHOT_OK;
    if (!p->ok) {
        (void)fail(p->fetch, "%s", error);
    }
}

/* The window from the aligned offset on. */
static bool window_read(struct pull *p, uint64_t offset)
{
    struct fetch *f = p->fetch;
    char words[4][24];
    const char *argv[] = {"LOCKSTEP", "SNAPSHOT", "READ", words[0], words[1], words[2], words[3]};
    struct reply_item item;
    p->window_offset = offset / ENV_BLOCK * ENV_BLOCK;
    snprintf(words[0], sizeof words[0], "%" PRIu64, f->index);
    snprintf(words[1], sizeof words[1], "%" PRIu64, f->term);
    snprintf(words[2], sizeof words[2], "%" PRIu64, p->window_offset);
    snprintf(words[3], sizeof words[3], "%" PRIu64, WINDOW_BYTES);
    if (!connection_call(p->connection, 7, argv, &item)) {
        return fail(f, "%s:%u: %s", f->address.host, f->address.port, connection_error(p->connection));
    }
    if (item.type != '$' || item.is_null) {
        p->damaged = strncmp(item.text, "NOSNAPSHOT", 10) == 0;
        return fail(f, "%s:%u: %.*s", f->address.host, f->address.port, item.len < 400 ? (int)item.len : 400,
                    item.text);
    }
    p->window = (const uint8_t *)item.text;
    p->window_len = item.len;
    f->received += item.len;
    return true;
}

static bool header_read(struct pull *p)
{
    if (!window_read(p, 0)) {
        return false;
    }
    p->header_len = p->window_len >= ENV_BLOCK ? snapshot_header_claim(p->window) : 0;
    if (p->header_len == 0 || p->header_len > p->window_len) {
        p->damaged = true;
        return fail(p->fetch, "%s:%u: what it sends is no snapshot: verify its files when it is stopped",
                    p->fetch->address.host, p->fetch->address.port);
    }
    p->header = malloc(p->header_len);
    if (p->header == NULL) {
        return fail(p->fetch, "out of memory");
    }
    memcpy(p->header, p->window, p->header_len);
    return true;
}

/* Length of the piece at `at` if the window holds all of it, else 0. `*last`: it is the trailer. */
static size_t piece_in_window(const struct pull *p, const struct snapshot_position *at, uint64_t *from)
{
    const uint64_t trailer = snapshot_trailer_offset(at->offset);
    struct snapshot_block block;
    *from = at->offset;
    if (at->offset < p->window_offset || at->offset + SNAPSHOT_BLOCK_HEADER_BYTES > p->window_offset + p->window_len) {
        return 0;
    }
    const uint8_t *bytes = p->window + (at->offset - p->window_offset);
    size_t len = 0;
    if (snapshot_block_decode(bytes, at, &block)) {
        len = snapshot_block_bytes(block.stored_len);
    } else if (trailer + SNAPSHOT_TRAILER_BYTES == p->fetch->bytes) {
        *from = trailer;
        len = SNAPSHOT_TRAILER_BYTES;
    }
    return *from + len <= p->window_offset + p->window_len ? len : 0;
}

static void progress_print(struct pull *p, uint64_t done)
{
    const time_t now = time(NULL);
    if (!p->fetch->quiet && isatty(STDERR_FILENO) && now != p->told) {
        p->told = now;
        fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MiB ", done >> 20, p->fetch->bytes >> 20);
    }
}

/* Give the receiver the piece it needs next. */
static bool piece_give(struct pull *p)
{
    const struct snapshot_position at = snapshot_receiver_next(p->receiver);
    uint64_t from;
    size_t len = piece_in_window(p, &at, &from);
    if (len == 0) {
        const bool trailer = snapshot_trailer_offset(at.offset) + SNAPSHOT_TRAILER_BYTES == p->fetch->bytes;
        progress_print(p, at.offset);
        if (!window_read(p, at.offset)) {
            return false;
        }
        len = piece_in_window(p, &at, &from);
        if (len == 0 && trailer && window_read(p, snapshot_trailer_offset(at.offset))) {
            from = snapshot_trailer_offset(at.offset);
            len = p->window_len >= SNAPSHOT_TRAILER_BYTES ? SNAPSHOT_TRAILER_BYTES : 0;
        }
    }
    if (len == 0) {
        p->damaged = true;
        return fail(p->fetch,
                    "%s:%u: block %" PRIu64 " of its snapshot is damaged: back up from another node, and verify "
                    "the files of this one",
                    p->fetch->address.host, p->fetch->address.port, at.number);
    }
    p->ready = false;
    const uint8_t *bytes = p->window + (from - p->window_offset);
    const enum snapshot_status status = snapshot_receiver_put(p->receiver, &at, bytes, len);
    if (status == SNAPSHOT_DAMAGED) {
        p->damaged = true;
        return fail(p->fetch, "%s:%u: block %" PRIu64 " of its snapshot is damaged", p->fetch->address.host,
                    p->fetch->address.port, at.number);
    }
    while (status == SNAPSHOT_BUSY && !p->ready && !p->done && file_env_turn(p->env)) {
    }
    return true;
}

static bool body_pull(struct pull *p)
{
    while (!p->opened && !p->done && file_env_turn(p->env)) {
    }
    while (p->opened && !p->done) {
        const struct snapshot_position before = snapshot_receiver_next(p->receiver);
        if (!piece_give(p)) {
            return false;
        }
        const struct snapshot_position after = snapshot_receiver_next(p->receiver);
        if (after.number == before.number &&
            snapshot_trailer_offset(before.offset) + SNAPSHOT_TRAILER_BYTES == p->fetch->bytes) {
            while (!p->done && file_env_turn(p->env)) { /* the trailer was taken: the rest is disk work */
            }
        }
    }
    return p->ok;
}

static bool attempt(struct fetch *f, struct env *env, bool *again)
{
    struct pull p = {.fetch = f, .env = env};
    char error[CONNECTION_ERROR_MAX];
    const struct snapshot_receiver_events events = {.opened = opened_cb, .ready = ready_cb, .done = done_cb, .ctx = &p};
    f->error[0] = '\0';
    p.connection = connection_open(&f->address, f->timeout_ms, true, error);
    if (p.connection == NULL) {
        *again = true;
        return fail(f, "%s:%u: %s", f->address.host, f->address.port, error);
    }
    bool ok = header_read(&p);
    const struct snapshot_receiver_config config = {.env = env, .header = p.header, .header_len = p.header_len};
    if (ok && snapshot_receiver_open(&config, &events, &p.receiver) != SNAPSHOT_OK) {
        p.damaged = true;
        ok = fail(f, "%s:%u: the header of its snapshot is damaged", f->address.host, f->address.port);
    }
    ok = ok && body_pull(&p);
    *again = !ok && !p.damaged && !p.done;
    if (p.receiver != NULL) {
        snapshot_receiver_close(p.receiver, true);
    }
    while (file_env_turn(env)) {
    }
    connection_close(p.connection);
    free(p.header);
    return ok;
}

bool fetch_run(struct fetch *f, struct env *env)
{
    bool again = true;
    for (unsigned i = 0; i < ATTEMPTS && again; i++) {
        if (i > 0) {
            nap(500);
        }
        if (attempt(f, env, &again)) {
            return true;
        }
    }
    return false;
}
