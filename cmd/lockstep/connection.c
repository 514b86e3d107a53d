#include "cmd/lockstep/connection.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cmd/lockstep/reply_skip.h"

#define READ_BYTES 16384u

struct connection {
    redisContext *redis;
    struct reply_skip skip;
    char *data; /* what has been received: [reply_end..received) is not looked at yet */
    size_t capacity, received, reply_end;
    char error[CONNECTION_ERROR_MAX];
};

struct connection *connection_open(const struct address *address, unsigned timeout_ms, bool reads_too,
                                   char error[CONNECTION_ERROR_MAX])
{
    struct timeval timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                              .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        snprintf(error, CONNECTION_ERROR_MAX, "not enough memory");
        return NULL;
    }
    connection->redis = redisConnectWithTimeout(address->host, (int)address->port, timeout);
    if (connection->redis == NULL || connection->redis->err != 0) {
        snprintf(error, CONNECTION_ERROR_MAX, "cannot connect: %.200s",
                 connection->redis == NULL ? "not enough memory" : connection->redis->errstr);
        connection_close(connection);
        return NULL;
    }
    if (reads_too) {
        redisSetTimeout(connection->redis, timeout);
    }
    redisEnableKeepAlive(connection->redis);
    reply_skip_init(&connection->skip);
    return connection;
}

void connection_close(struct connection *connection)
{
    if (connection == NULL) {
        return;
    }
    if (connection->redis != NULL) {
        redisFree(connection->redis);
    }
    free(connection->data);
    free(connection);
}

bool connection_send(struct connection *connection, int argc, const char *const *argv, const size_t *lens)
{
    int done = 0;
    /* hiredis takes pointers to non-const pointers, but doesn't write through them. */
    if (redisAppendCommandArgv(connection->redis, argc, (const char **)(uintptr_t)argv, lens) != REDIS_OK) {
        snprintf(connection->error, sizeof(connection->error), "%.200s", connection->redis->errstr);
        return false;
    }
    while (!done) {
        if (redisBufferWrite(connection->redis, &done) != REDIS_OK) {
            snprintf(connection->error, sizeof(connection->error), "connection lost: %.200s",
                     connection->redis->errstr);
            return false;
        }
    }
    return true;
}

static bool connection_receive(struct connection *connection)
{
    if (connection->capacity - connection->received < READ_BYTES) {
        size_t capacity = connection->capacity * 2 + READ_BYTES;
        char *grown = realloc(connection->data, capacity);
        if (grown == NULL) {
            snprintf(connection->error, sizeof(connection->error), "not enough memory for the reply");
            return false;
        }
        connection->data = grown;
        connection->capacity = capacity;
    }
    for (;;) {
        ssize_t n = recv(connection->redis->fd, connection->data + connection->received,
                         connection->capacity - connection->received, 0);
        if (n > 0) {
            connection->received += (size_t)n;
            return true;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        const char *why = n == 0 ? "closed by the server" : errno == EAGAIN ? "no answer in time" : strerror(errno);
        snprintf(connection->error, sizeof(connection->error), "connection lost: %s", why);
        return false;
    }
}

bool connection_read(struct connection *connection, const char **data, size_t *len)
{
    connection->received -= connection->reply_end;
    if (connection->received > 0) {
        memmove(connection->data, connection->data + connection->reply_end, connection->received);
    }
    connection->reply_end = 0;
    size_t seen = 0;
    for (;;) {
        if (seen < connection->received) {
            enum reply_skip_event event;
            seen += reply_skip_feed(&connection->skip, connection->data + seen, connection->received - seen, &event);
            if (event == REPLY_SKIP_BAD) {
                snprintf(connection->error, sizeof(connection->error), "the server's reply is not RESP");
                return false;
            }
            if (event == REPLY_SKIP_DONE) {
                connection->reply_end = seen;
                *data = connection->data;
                *len = seen;
                return true;
            }
        }
        if (!connection_receive(connection)) {
            return false;
        }
    }
}

bool connection_call(struct connection *connection, int argc, const char *const *argv, struct reply_item *item)
{
    const char *data;
    size_t len;
    if (!connection_send(connection, argc, argv, NULL) || !connection_read(connection, &data, &len)) {
        return false;
    }
    struct reply_cursor cursor;
    reply_begin(&cursor, data, len);
    if (!reply_next(&cursor, item)) {
        snprintf(connection->error, sizeof(connection->error), "the server's reply is not RESP");
        return false;
    }
    return true;
}

const char *connection_error(const struct connection *connection)
{
    return connection->error;
}
