#include "cmd/lockstepd/exec_args.h"

#include <stdlib.h>
#include <string.h>

/* --- Encoding ----------------------------------------------------------------------------------------------------- */

static size_t argv_bytes(const struct iovec *argv, unsigned argc)
{
    size_t n = 4;

    for (unsigned i = 0; i < argc; i++) {
        n += 4 + argv[i].iov_len;
    }
    return n;
}

static uint8_t *put_u32(uint8_t *at, size_t value)
{
    const uint32_t v = (uint32_t)value;

    memcpy(at, &v, sizeof v);
    return at + sizeof v;
}

static uint8_t *put_bytes(uint8_t *at, const struct iovec *v)
{
    at = put_u32(at, v->iov_len);
    if (v->iov_len > 0) {
        memcpy(at, v->iov_base, v->iov_len);
    }
    return at + v->iov_len;
}

static uint8_t *put_argv(uint8_t *at, const struct iovec *argv, unsigned argc)
{
    at = put_u32(at, argc);
    for (unsigned i = 0; i < argc; i++) {
        at = put_bytes(at, &argv[i]);
    }
    return at;
}

static struct exec_args *block_new(size_t len, bool transaction)
{
    struct exec_args *args;

    if (len > UINT32_MAX) {
        return NULL;
    }
    args = malloc(sizeof *args + len);
    if (args != NULL) {
        args->len = (uint32_t)len;
        args->transaction = transaction;
    }
    return args;
}

struct exec_args *exec_args_command(const struct iovec *argv, unsigned argc)
{
    struct exec_args *args = block_new(argv_bytes(argv, argc), false);

    if (args != NULL) {
        (void)put_argv(args->bytes, argv, argc);
    }
    return args;
}

struct exec_args *exec_args_transaction(const struct store_watch *watches, unsigned n_watches,
                                        const struct store_queued *commands, unsigned n_commands)
{
    size_t len = 8;
    struct exec_args *args;

    for (unsigned i = 0; i < n_watches; i++) {
        len += 12 + watches[i].key.iov_len;
    }
    for (unsigned i = 0; i < n_commands; i++) {
        len += argv_bytes(commands[i].argv, commands[i].argc);
    }
    args = block_new(len, true);
    if (args == NULL) {
        return NULL;
    }
    uint8_t *at = put_u32(args->bytes, n_watches);
    at = put_u32(at, n_commands);
    for (unsigned i = 0; i < n_watches; i++) {
        memcpy(at, &watches[i].revision, 8);
        at = put_bytes(at + 8, &watches[i].key);
    }
    for (unsigned i = 0; i < n_commands; i++) {
        at = put_argv(at, commands[i].argv, commands[i].argc);
    }
    return args;
}

/* --- Decoding ----------------------------------------------------------------------------------------------------- */

struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take_u32(struct cursor *c, uint32_t *v)
{
    if (c->left < sizeof *v) {
        return false;
    }
    memcpy(v, c->at, sizeof *v);
    c->at += sizeof *v;
    c->left -= sizeof *v;
    return true;
}

static bool take_bytes(struct cursor *c, struct iovec *v)
{
    uint32_t len;

    if (!take_u32(c, &len) || c->left < len) {
        return false;
    }
    *v = (struct iovec){(void *)(uintptr_t)c->at, len};
    c->at += len;
    c->left -= len;
    return true;
}

static bool grow(void **array, size_t *capacity, size_t needed, size_t size)
{
    void *bigger;
    size_t n = *capacity == 0 ? 16 : *capacity;

    if (needed <= *capacity) {
        return true;
    }
    while (n < needed) {
        n *= 2;
    }
    bigger = realloc(*array, n * size);
    if (bigger == NULL) {
        return false;
    }
    *array = bigger;
    *capacity = n;
    return true;
}

/* One argument vector, its slices appended to view->iov from `used` on. An argument takes 4 bytes at least, which
 * bounds what is allocated by what has arrived. */
static bool take_argv(struct cursor *c, struct exec_view *view, size_t used, uint32_t *argc)
{
    if (!take_u32(c, argc) || *argc == 0 || *argc > EXEC_ARGS_ARGC_MAX || *argc > c->left / 4 ||
        !grow((void **)&view->iov, &view->iov_capacity, used + *argc, sizeof *view->iov)) {
        return false;
    }
    for (uint32_t i = 0; i < *argc; i++) {
        if (!take_bytes(c, &view->iov[used + i])) {
            return false;
        }
    }
    return true;
}

static bool decode_transaction(struct cursor *c, struct exec_view *view)
{
    uint32_t n_watches, n_commands;
    size_t used = 0;

    if (!take_u32(c, &n_watches) || !take_u32(c, &n_commands) || n_watches > c->left / 12 ||
        n_commands > EXEC_ARGS_COMMANDS_MAX || n_commands > c->left / 4 ||
        !grow((void **)&view->watch_array, &view->watch_capacity, n_watches, sizeof *view->watch_array) ||
        !grow((void **)&view->queued, &view->queued_capacity, n_commands, sizeof *view->queued)) {
        return false;
    }
    for (uint32_t i = 0; i < n_watches; i++) {
        if (c->left < 8) {
            return false;
        }
        memcpy(&view->watch_array[i].revision, c->at, 8);
        c->at += 8;
        c->left -= 8;
        if (!take_bytes(c, &view->watch_array[i].key)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < n_commands; i++) {
        if (!take_argv(c, view, used, &view->queued[i].argc)) {
            return false;
        }
        used += view->queued[i].argc;
    }
    used = 0; /* the array does not move any more */
    for (uint32_t i = 0; i < n_commands; i++) {
        view->queued[i].argv = view->iov + used;
        used += view->queued[i].argc;
    }
    view->watches = view->watch_array;
    view->n_watches = n_watches;
    view->commands = view->queued;
    view->n_commands = n_commands;
    return c->left == 0;
}

bool exec_args_decode(const uint8_t *bytes, size_t len, bool transaction, struct exec_view *view)
{
    struct cursor c = {bytes, len};
    uint32_t argc;

    if (transaction) {
        return decode_transaction(&c, view);
    }
    if (!take_argv(&c, view, 0, &argc) || c.left != 0) {
        return false;
    }
    view->argv = view->iov;
    view->argc = argc;
    return true;
}

void exec_view_fini(struct exec_view *view)
{
    free(view->iov);
    free(view->watch_array);
    free(view->queued);
    *view = (struct exec_view){0};
}
