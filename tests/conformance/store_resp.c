/* A test driver: one store behind a TCP port of 127.0.0.1, spoken to in RESP2. Each write command is a batch of its own
 * with the wall clock as cluster time, as a cluster of one that never waits. It exists so that the store's replies can
 * be compared with redis-server's without a network of replicas in between; it is no server for anything else.
 *
 *     store_resp PORT        (0: any; the port is printed as "ready PORT")
 *
 * It ends when its standard input ends. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/resp.h"
#include "store/store.h"

#define CLIENTS_MAX 16
#define BATCH_BYTES_MAX (600u * 1024 * 1024)
#define READ_BYTES (64u * 1024)

struct sink {
    struct store_reply base;
    struct resp_buffer *out;
};

struct command_copy {
    struct iovec *argv;
    unsigned argc;
};

struct client {
    int fd; /* -1: free slot */
    struct resp_reader *reader;
    struct resp_buffer out;
    bool in_multi, multi_failed;
    struct command_copy *queued;
    unsigned n_queued;
    struct store_watch *watches;
    unsigned n_watches;
};

struct driver {
    struct store *store;
    struct client clients[CLIENTS_MAX];
};

static void *must(void *memory)
{
    if (memory == NULL) {
        fputs("store_resp: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

static uint64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- Replies ----------------------------------------------------------------------------------------------------- */

static struct resp_buffer *out_of(struct store_reply *r)
{
    return ((struct sink *)r)->out;
}

static void sink_status(struct store_reply *r, const char *text)
{
    resp_write_status(out_of(r), text);
}

static void sink_error(struct store_reply *r, const char *text, size_t len)
{
    resp_write_error(out_of(r), text, len);
}

static void sink_integer(struct store_reply *r, int64_t value)
{
    resp_write_integer(out_of(r), value);
}

static void sink_bulk(struct store_reply *r, const void *data, size_t len)
{
    resp_write_bulk(out_of(r), data, len);
}

static void sink_null(struct store_reply *r)
{
    resp_write_null(out_of(r), 2);
}

static void sink_null_array(struct store_reply *r)
{
    resp_write_null_array(out_of(r), 2);
}

static void sink_array(struct store_reply *r, size_t n)
{
    resp_write_array(out_of(r), n);
}

static void sink_map(struct store_reply *r, size_t n)
{
    resp_write_map(out_of(r), 2, n);
}

static void sink_set(struct store_reply *r, size_t n)
{
    resp_write_set(out_of(r), 2, n);
}

static void sink_real(struct store_reply *r, double value)
{
    resp_write_real(out_of(r), 2, value);
}

static const struct store_reply_ops sink_ops = {
    .status = sink_status,
    .error = sink_error,
    .integer = sink_integer,
    .bulk = sink_bulk,
    .null = sink_null,
    .null_array = sink_null_array,
    .array = sink_array,
    .map = sink_map,
    .set = sink_set,
    .real = sink_real,
};

static void write_error(struct client *client, const char *text)
{
    resp_write_error(&client->out, text, strlen(text));
}

/* --- Entries ----------------------------------------------------------------------------------------------------- */

static struct store_reply *begin_reply(void *ctx, unsigned i)
{
    (void)i;
    return ctx;
}

static void end_reply(void *ctx, unsigned i)
{
    (void)ctx;
    (void)i;
}

static void seal_and_apply(struct driver *driver, struct store_batch *batch, struct store_reply *reply)
{
    uint64_t now = wall_clock_ms(), before = store_time_ms(driver->store);
    void *data;
    size_t len;
    enum store_status status = store_batch_seal(batch, now > before ? now : before, &data, &len);
    assert(status == STORE_OK);
    status = store_entry_check(data, len);
    assert(status == STORE_OK);
    const struct store_apply_hooks hooks = {.ctx = reply, .begin = begin_reply, .end = end_reply};
    store_apply(driver->store, data, len, &hooks);
    free(data);
}

/* An entry without commands, so that reads see what has expired. */
static void tick(struct driver *driver)
{
    if (wall_clock_ms() > store_time_ms(driver->store)) {
        struct store_batch batch;
        store_batch_init(&batch, BATCH_BYTES_MAX);
        seal_and_apply(driver, &batch, NULL);
        store_batch_fini(&batch);
    }
}

static void execute(struct driver *driver, struct client *client, const struct store_command *command,
                    const struct iovec *argv, unsigned argc)
{
    struct sink sink = {.base = {.ops = &sink_ops}, .out = &client->out};
    if (command->flags & STORE_READ) {
        tick(driver);
        store_read(driver->store, command, argv, argc, &sink.base);
        return;
    }
    struct store_batch batch;
    store_batch_init(&batch, BATCH_BYTES_MAX);
    if (store_batch_add(&batch, argv, argc) == STORE_OK) {
        seal_and_apply(driver, &batch, &sink.base);
    } else {
        write_error(client, "ERR the command is too big for a batch");
    }
    store_batch_fini(&batch);
}

/* --- Transactions ------------------------------------------------------------------------------------------------ */

static void forget_watches(struct client *client)
{
    for (unsigned i = 0; i < client->n_watches; i++) {
        free(client->watches[i].key.iov_base);
    }
    free(client->watches);
    client->watches = NULL;
    client->n_watches = 0;
}

static void forget_queue(struct client *client)
{
    for (unsigned i = 0; i < client->n_queued; i++) {
        free(client->queued[i].argv);
    }
    free(client->queued);
    client->queued = NULL;
    client->n_queued = 0;
    client->in_multi = false;
    client->multi_failed = false;
}

/* One block: the vector, then the bytes. */
static struct iovec *copy_arguments(const struct iovec *argv, unsigned argc)
{
    size_t bytes = argc * sizeof *argv;
    for (unsigned i = 0; i < argc; i++) {
        bytes += argv[i].iov_len;
    }
    struct iovec *copy = must(malloc(bytes));
    char *at = (char *)(copy + argc);
    for (unsigned i = 0; i < argc; i++) {
        memcpy(at, argv[i].iov_base, argv[i].iov_len);
        copy[i] = (struct iovec){.iov_base = at, .iov_len = argv[i].iov_len};
        at += argv[i].iov_len;
    }
    return copy;
}

static void queue(struct client *client, const struct iovec *argv, unsigned argc)
{
    client->queued = must(realloc(client->queued, (client->n_queued + 1) * sizeof *client->queued));
    client->queued[client->n_queued++] = (struct command_copy){copy_arguments(argv, argc), argc};
    resp_write_status(&client->out, "QUEUED");
}

static void watch(struct driver *driver, struct client *client, const struct iovec *argv, unsigned argc)
{
    tick(driver);
    for (unsigned i = 1; i < argc; i++) {
        client->watches = must(realloc(client->watches, (client->n_watches + 1) * sizeof *client->watches));
        void *name = must(malloc(argv[i].iov_len + 1));
        memcpy(name, argv[i].iov_base, argv[i].iov_len);
        client->watches[client->n_watches++] =
            (struct store_watch){.key = {.iov_base = name, .iov_len = argv[i].iov_len},
                                 .revision = store_key_revision(driver->store, argv[i].iov_base, argv[i].iov_len)};
    }
    resp_write_status(&client->out, "OK");
}

static void exec(struct driver *driver, struct client *client)
{
    if (client->multi_failed) {
        write_error(client, "EXECABORT Transaction discarded because of previous errors.");
    } else {
        struct store_queued *commands = must(calloc(client->n_queued + 1, sizeof *commands));
        for (unsigned i = 0; i < client->n_queued; i++) {
            commands[i] = (struct store_queued){.argv = client->queued[i].argv, .argc = client->queued[i].argc};
        }
        struct store_batch batch;
        store_batch_init(&batch, BATCH_BYTES_MAX);
        struct sink sink = {.base = {.ops = &sink_ops}, .out = &client->out};
        if (store_batch_add_transaction(&batch, client->watches, client->n_watches, commands, client->n_queued) ==
            STORE_OK) {
            seal_and_apply(driver, &batch, &sink.base);
        } else {
            write_error(client, "ERR the transaction is too big for a batch");
        }
        store_batch_fini(&batch);
        free(commands);
    }
    forget_queue(client);
    forget_watches(client);
}

/* MULTI and its relatives, which the store leaves to its owner; false if the command is none of them. */
static bool transaction_command(struct driver *driver, struct client *client, const struct iovec *argv, unsigned argc)
{
    static const struct {
        const char *name;
        unsigned argc_min, argc_max;
    } commands[] = {{"multi", 1, 1}, {"exec", 1, 1}, {"discard", 1, 1}, {"watch", 2, UINT32_MAX}, {"unwatch", 1, 1}};
    enum { MULTI, EXEC, DISCARD, WATCH, UNWATCH, NONE } which = MULTI;
    while (which < NONE && (strlen(commands[which].name) != argv[0].iov_len ||
                            strncasecmp(commands[which].name, argv[0].iov_base, argv[0].iov_len) != 0)) {
        which++;
    }
    if (which == NONE) {
        return false;
    }
    if (argc < commands[which].argc_min || argc > commands[which].argc_max) {
        char text[128];
        snprintf(text, sizeof text, "%s wrong number of arguments for '%s' command",
                 which == EXEC ? "EXECABORT Transaction discarded because of:" : "ERR", commands[which].name);
        write_error(client, text);
        client->multi_failed = true;
        if (which == EXEC) {
            forget_queue(client);
            forget_watches(client);
        }
    } else if (which == MULTI && client->in_multi) {
        write_error(client, "ERR MULTI calls can not be nested");
    } else if (which == WATCH && client->in_multi) {
        write_error(client, "ERR WATCH inside MULTI is not allowed");
    } else if (which == EXEC && !client->in_multi) {
        write_error(client, "ERR EXEC without MULTI");
    } else if (which == DISCARD && !client->in_multi) {
        write_error(client, "ERR DISCARD without MULTI");
    } else if (which == WATCH) {
        watch(driver, client, argv, argc);
    } else if (which == EXEC) {
        exec(driver, client);
    } else {
        if (which != MULTI) {
            forget_queue(client);
            forget_watches(client);
        }
        client->in_multi = which == MULTI;
        client->multi_failed = false;
        resp_write_status(&client->out, "OK");
    }
    return true;
}

static void dispatch(struct driver *driver, struct client *client, const struct iovec *argv, unsigned argc)
{
    if (transaction_command(driver, client, argv, argc)) {
        return;
    }
    struct sink sink = {.base = {.ops = &sink_ops}, .out = &client->out};
    const struct store_command *command = store_command_find(argv[0].iov_base, argv[0].iov_len);
    if (command == NULL) {
        write_error(client, "ERR unknown command");
        client->multi_failed = true;
    } else if (!store_command_check(command, argv, argc, &sink.base)) {
        client->multi_failed = true;
    } else if (client->in_multi) {
        queue(client, argv, argc);
    } else {
        execute(driver, client, command, argv, argc);
    }
}

/* --- Connections ------------------------------------------------------------------------------------------------- */

static void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    resp_reader_free(client->reader);
    resp_buffer_fini(&client->out);
    forget_queue(client);
    forget_watches(client);
}

static void client_open(struct driver *driver, int fd)
{
    static const struct resp_limits limits = {.args_max = 1024 * 1024,
                                              .bulk_bytes_max = 512 * 1024 * 1024,
                                              .inline_bytes_max = 64 * 1024,
                                              .query_bytes_max = 1024 * 1024 * 1024};
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &driver->clients[i];
        if (client->fd == -1) {
            *client = (struct client){.fd = fd, .reader = must(resp_reader_new(&limits))};
            resp_buffer_init(&client->out);
            return;
        }
    }
    close(fd);
}

static bool write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* Read what has come, answer it; false when the connection is to be closed. */
static bool client_serve(struct driver *driver, struct client *client)
{
    char *space;
    size_t room;
    if (resp_reader_space(client->reader, READ_BYTES, &space, &room) != RESP_OK) {
        return false;
    }
    ssize_t n = read(client->fd, space, room);
    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    resp_reader_fed(client->reader, (size_t)n);
    const struct iovec *argv;
    unsigned argc;
    enum resp_status status;
    while ((status = resp_reader_next(client->reader, &argv, &argc)) == RESP_OK) {
        if (argc > 0) {
            dispatch(driver, client, argv, argc);
        }
    }
    if (status == RESP_ERROR) {
        write_error(client, resp_reader_error(client->reader));
    }
    bool written = write_all(client->fd, client->out.data, client->out.len);
    resp_buffer_clear(&client->out);
    return written && status == RESP_AGAIN;
}

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("store_resp: listen");
        exit(2);
    }
    printf("ready %u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_client(struct driver *driver, int listener)
{
    int fd = accept(listener, NULL, NULL), one = 1;
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        client_open(driver, fd);
    }
}

static void serve(struct driver *driver, int listener)
{
    for (;;) {
        struct pollfd polled[2 + CLIENTS_MAX] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                                 {.fd = listener, .events = POLLIN}};
        for (unsigned i = 0; i < CLIENTS_MAX; i++) {
            polled[2 + i] = (struct pollfd){.fd = driver->clients[i].fd, .events = POLLIN};
        }
        if (poll(polled, 2 + CLIENTS_MAX, -1) < 0 && errno != EINTR) {
            perror("store_resp: poll");
            exit(2);
        }
        char byte;
        if (polled[0].revents != 0 && read(STDIN_FILENO, &byte, 1) <= 0) {
            return;
        }
        if (polled[1].revents != 0) {
            accept_client(driver, listener);
        }
        for (unsigned i = 0; i < CLIENTS_MAX; i++) {
            struct client *client = &driver->clients[i];
            if (client->fd != -1 && polled[2 + i].fd == client->fd && polled[2 + i].revents != 0 &&
                !client_serve(driver, client)) {
                client_close(client);
            }
        }
    }
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long port = argc == 2 ? strtoul(argv[1], &end, 10) : UINT16_MAX + 1UL;
    if (port > UINT16_MAX || *end != '\0') {
        fputs("usage: store_resp PORT (0: any free one); ends when its standard input ends\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    static struct driver driver;
    driver.store = must(store_new(&(struct store_config){.hash_seed = 1}));
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        driver.clients[i].fd = -1;
    }
    int listener = listen_on((uint16_t)port);
    serve(&driver, listener);
    close(listener);
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        if (driver.clients[i].fd != -1) {
            client_close(&driver.clients[i]);
        }
    }
    store_free(driver.store);
    return 0;
}
