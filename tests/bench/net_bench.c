/* A server that answers +OK to everything: what the net layer alone costs. Ends on SIGTERM, SIGINT or a SHUTDOWN
 * command. net_bench PORT &  redis-benchmark -p PORT -t ping_mbulk,set -P 1 -c 50 -n 500000 */
#include "net/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server *server;
static uv_signal_t signals[2];

static void stop(void)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&signals[i], NULL);
    server_close(server, NULL, NULL);
    server = NULL;
}

static void *accepted_cb(void *ctx, struct conn *conn)
{
    (void)ctx;
    return conn;
}

static bool request_cb(void *session, struct conn *conn, const struct iovec *argv, unsigned argc)
{
    (void)session;
    (void)argc;
    if (argv[0].iov_len == 6 && memcmp(argv[0].iov_base, "CONFIG", 6) == 0)
        resp_write_array(conn_output(conn), 0); /* redis-benchmark asks */
    else
        resp_write_status(conn_output(conn), "OK");
    if (argv[0].iov_len == 8 && memcmp(argv[0].iov_base, "SHUTDOWN", 8) == 0)
        stop();
    return true;
}

static void closed_cb(void *session, struct conn *conn, const char *why)
{
    (void)session;
    (void)conn;
    (void)why;
}

static void signal_cb(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    stop();
}

int main(int argc, char **argv)
{
    uv_loop_t *loop = uv_default_loop();
    struct server_config config = {
        .loop = loop, .accepted = accepted_cb, .request = request_cb, .closed = closed_cb, .tcp_keepalive_s = 300};
    const int numbers[2] = {SIGTERM, SIGINT};
    const char *error;
    signal(SIGPIPE, SIG_IGN);
    server = server_new(&config);
    if (server == NULL)
        return 1;
    if (server_listen(server, "127.0.0.1", argc > 1 ? (unsigned)atoi(argv[1]) : 0, &error) != 0) {
        fprintf(stderr, "net_bench: %s\n", error);
        return 1;
    }
    for (unsigned i = 0; i < 2; i++) {
        uv_signal_init(loop, &signals[i]);
        uv_signal_start(&signals[i], signal_cb, numbers[i]);
    }
    printf("port %u\n", server_port(server));
    fflush(stdout);
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 1;
}
