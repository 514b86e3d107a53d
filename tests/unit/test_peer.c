#include "net/frame.h"
#include "net/peer.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NODES_MAX 3u
#define FRAMES_MAX 4096u

/* A few nodes in one loop. A node's hello is "cluster <name> node <id>". */
struct node {
    uint64_t id;
    struct peers *peers;
    const char *cluster;
    unsigned port;
    bool closed;
    bool reject_frames;
    unsigned frames; /* received */
    uint64_t frames_bytes;
    uint32_t numbers[FRAMES_MAX];     /* first four bytes of each */
    uint64_t connection, connections; /* last number seen; how often it changed */
    unsigned ups[NODES_MAX + 1], downs[NODES_MAX + 1];
    unsigned judged;
    uint64_t judged_at_ms[256];
    unsigned warnings;
    char last_warning[512];
    char text[8192]; /* the log */
    uint64_t seed;
};

static uv_loop_t loop;
static struct node nodes[NODES_MAX + 1]; /* by id */
static struct peers_config config;
static int reserved_fd;

static uint64_t random_cb(void *ctx)
{
    struct node *node = ctx;
    node->seed = node->seed * 6364136223846793005u + 1442695040888963407u;
    return node->seed >> 33;
}

static size_t hello_cb(void *ctx, uint64_t peer_id, void *buf, size_t capacity)
{
    const struct node *node = ctx;
    (void)peer_id;
    return (size_t)snprintf(buf, capacity, "cluster %s node %llu", node->cluster, (unsigned long long)node->id);
}

static uint64_t judge_cb(void *ctx, uint64_t expected_id, const void *hello, size_t len, const char **why)
{
    struct node *node = ctx;
    char text[128], cluster[64];
    unsigned long long id = 0;
    if (expected_id == 0 && node->judged < 256)
        node->judged_at_ms[node->judged] = uv_now(&loop);
    node->judged += expected_id == 0;
    ck_assert_uint_lt(len, sizeof(text));
    memcpy(text, hello, len);
    text[len] = '\0';
    if (sscanf(text, "cluster %63s node %llu", cluster, &id) != 2) {
        *why = "malformed hello";
        return 0;
    }
    if (strcmp(cluster, node->cluster) != 0) {
        *why = "another cluster";
        return 0;
    }
    return id;
}

static bool frame_cb(void *ctx, uint64_t peer_id, uint64_t connection, const void *frame, size_t len)
{
    struct node *node = ctx;
    (void)peer_id;
    ck_assert_uint_eq((uintptr_t)frame % 8, 0);
    ck_assert_uint_ge(connection, node->connection);
    node->connections += connection != node->connection;
    node->connection = connection;
    if (len >= 4 && node->frames < FRAMES_MAX)
        memcpy(&node->numbers[node->frames], frame, 4);
    node->frames++;
    node->frames_bytes += len;
    return !node->reject_frames;
}

static void state_cb(void *ctx, uint64_t peer_id, bool connected)
{
    struct node *node = ctx;
    ck_assert_uint_le(peer_id, NODES_MAX);
    ck_assert_int_eq(peers_connected(node->peers, peer_id), connected);
    if (connected)
        node->ups[peer_id]++;
    else
        node->downs[peer_id]++;
}

static void log_cb(void *ctx, int level, const char *text)
{
    struct node *node = ctx;
    size_t at = strlen(node->text);
    snprintf(node->text + at, sizeof(node->text) - at, "%s\n", text);
    if (level <= 1) {
        node->warnings++;
        snprintf(node->last_warning, sizeof(node->last_warning), "%s", text);
    }
}

static void node_closed_cb(void *ctx)
{
    struct node *node = ctx;
    node->closed = true;
    node->peers = NULL;
}

static void node_start(uint64_t id, unsigned port)
{
    const char *error;
    struct node *node = &nodes[id];
    node->id = id;
    node->seed = id;
    node->closed = false;
    node->connection = 0;
    if (node->cluster == NULL)
        node->cluster = "a";
    config.loop = &loop;
    config.ctx = node;
    node->peers = peers_new(&config);
    ck_assert_ptr_nonnull(node->peers);
    ck_assert_int_eq(peers_listen(node->peers, "127.0.0.1", port, &error), 0);
    node->port = peers_port(node->peers);
}

/* A port that nobody else gets for the time of the test, whether a node listens on it or not: bound, never listening.
 */
static unsigned port_reserve(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int on = 1;
    reserved_fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(reserved_fd, 0);
    setsockopt(reserved_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(bind(reserved_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(getsockname(reserved_fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static void setup(void)
{
    memset(nodes, 0, sizeof(nodes));
    reserved_fd = -1;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    config = (struct peers_config){.random = random_cb,
                                   .hello = hello_cb,
                                   .judge = judge_cb,
                                   .frame = frame_cb,
                                   .state = state_cb,
                                   .log = log_cb,
                                   .backoff_min_ms = 5,
                                   .backoff_max_ms = 50};
}

static void teardown(void)
{
    for (unsigned i = 1; i <= NODES_MAX; i++) {
        if (nodes[i].peers != NULL)
            peers_close(nodes[i].peers, node_closed_cb, &nodes[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (unsigned i = 1; i <= NODES_MAX; i++)
        ck_assert(nodes[i].id == 0 || nodes[i].closed);
    if (reserved_fd >= 0)
        close(reserved_fd);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

#define RUN_UNTIL(condition)                                                                                           \
    do {                                                                                                               \
        while (!(condition))                                                                                           \
            uv_run(&loop, UV_RUN_ONCE);                                                                                \
    } while (0)

static void keep_awake_cb(uv_timer_t *timer)
{
    (void)timer;
}

/* Runs the loop for a while of its own time. */
static void run_for(uint64_t ms)
{
    uv_timer_t timer;
    uv_update_time(&loop);
    const uint64_t end = uv_now(&loop) + ms;
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, keep_awake_cb, ms, 0);
    RUN_UNTIL(uv_now(&loop) >= end);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void node_stop(uint64_t id)
{
    peers_close(nodes[id].peers, node_closed_cb, &nodes[id]);
    RUN_UNTIL(nodes[id].closed);
}

static void connect_pair_at(unsigned port)
{
    node_start(1, 0);
    node_start(2, port);
    peers_add(nodes[1].peers, 2, "127.0.0.1", nodes[2].port);
    peers_add(nodes[2].peers, 1, "127.0.0.1", nodes[1].port);
    RUN_UNTIL(peers_connected(nodes[1].peers, 2) && peers_connected(nodes[2].peers, 1));
}

static void connect_pair(void)
{
    connect_pair_at(0);
}

static bool send_number(uint64_t from, uint64_t to, uint32_t number, size_t len)
{
    char *rest = calloc(1, len);
    const struct iovec pieces[] = {{&number, 4}, {rest, len - 4}};
    bool queued = peers_send(nodes[from].peers, to, pieces, 2);
    free(rest);
    return queued;
}

static void check_numbers(const struct node *node, uint32_t first)
{
    for (unsigned i = 0; i < node->frames && i < FRAMES_MAX; i++)
        ck_assert_uint_eq(node->numbers[i], first + i);
}

/* A plain client of a node's peer port. */
static int stranger_new(const struct node *node)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)node->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void stranger_send(int fd, const void *data, size_t len)
{
    ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void stranger_send_frame(int fd, enum frame_kind kind, const char *payload, size_t len)
{
    _Alignas(8) char frame[2048];
    const struct iovec piece = {(void *)(uintptr_t)payload, len};
    frame_write(frame, kind, &piece, 1, len);
    stranger_send(fd, frame, frame_wire_bytes(len));
}

static void stranger_hello(int fd, const char *hello)
{
    stranger_send_frame(fd, FRAME_HELLO, hello, strlen(hello));
}

static void stranger_expect_end(int fd)
{
    char sink[4096];
    for (;;) {
        ssize_t n = recv(fd, sink, sizeof(sink), 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            break;
        ck_assert(n > 0 || errno == EAGAIN);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    close(fd);
}

START_TEST(a_pair_connects_both_ways)
{
    connect_pair();
    ck_assert_uint_eq(nodes[1].ups[2], 1);
    ck_assert_uint_eq(nodes[2].ups[1], 1);
    ck_assert_uint_eq(nodes[1].warnings, 0);
}
END_TEST

START_TEST(three_nodes_connect_each_with_each)
{
    for (unsigned i = 1; i <= 3; i++)
        node_start(i, 0);
    for (unsigned i = 1; i <= 3; i++) {
        for (unsigned j = 1; j <= 3; j++) {
            if (i != j)
                peers_add(nodes[i].peers, j, "127.0.0.1", nodes[j].port);
        }
    }
    for (unsigned i = 1; i <= 3; i++) {
        for (unsigned j = 1; j <= 3; j++)
            RUN_UNTIL(i == j || peers_connected(nodes[i].peers, j));
    }
}
END_TEST

START_TEST(frames_arrive_whole_and_in_order)
{
    connect_pair();
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        const size_t len = 4 + i * 7 % 3000;
        ck_assert(send_number(1, 2, i, len));
        bytes += len;
    }
    RUN_UNTIL(nodes[2].frames == 1000);
    check_numbers(&nodes[2], 0);
    ck_assert_uint_eq(nodes[2].frames_bytes, bytes);
    ck_assert_uint_eq(nodes[2].connections, 1);
    ck_assert_uint_eq(peers_queue_bytes(nodes[1].peers, 2), 0);
}
END_TEST

START_TEST(a_frame_of_many_megabytes)
{
    connect_pair();
    const size_t len = 50u * 1024 * 1024;
    char *data = malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i ^ (i >> 11));
    const struct iovec pieces[] = {{data, 1000}, {data + 1000, len - 1000}};
    ck_assert(peers_send(nodes[1].peers, 2, pieces, 2));
    free(data);
    ck_assert(send_number(1, 2, 7, 4));
    RUN_UNTIL(nodes[2].frames == 2);
    ck_assert_uint_eq(nodes[2].numbers[1], 7);
    ck_assert_uint_eq(nodes[2].frames_bytes, len + 4);
}
END_TEST

START_TEST(empty_frames_and_no_pieces)
{
    connect_pair();
    ck_assert(peers_send(nodes[1].peers, 2, NULL, 0));
    ck_assert(send_number(1, 2, 1, 4));
    RUN_UNTIL(nodes[2].frames == 2);
    ck_assert_uint_eq(nodes[2].frames_bytes, 4);
}
END_TEST

START_TEST(nothing_is_queued_without_a_connection)
{
    node_start(1, 0);
    ck_assert(!send_number(1, 2, 1, 4)); /* unknown */
    peers_add(nodes[1].peers, 2, "127.0.0.1", port_reserve());
    ck_assert(!send_number(1, 2, 1, 4)); /* not up */
    ck_assert_uint_eq(peers_queue_bytes(nodes[1].peers, 2), 0);
    ck_assert(!peers_connected(nodes[1].peers, 2));
}
END_TEST

START_TEST(the_queue_is_bounded)
{
    config.queue_bytes_max = 256u * 1024;
    connect_pair();
    /* The loop doesn't run, so nothing leaves. */
    unsigned queued = 0;
    while (send_number(1, 2, queued, 1000))
        queued++;
    ck_assert_uint_eq(queued, 256u * 1024 / (1000 + 16));
    ck_assert_uint_le(peers_queue_bytes(nodes[1].peers, 2), 256u * 1024);
    RUN_UNTIL(nodes[2].frames == queued);
    check_numbers(&nodes[2], 0);
    ck_assert(send_number(1, 2, 0, 1000));
}
END_TEST

/* A stranger that accepts and greets, and then reads nothing: its connection. */
static int deaf_peer(void)
{
    node_start(1, 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t address_len = sizeof(address);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&address, &address_len);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    peers_add(nodes[1].peers, 2, "127.0.0.1", ntohs(address.sin_port));
    int fd = -1;
    RUN_UNTIL((fd = accept(listener, NULL, NULL)) >= 0);
    close(listener);
    stranger_hello(fd, "cluster a node 2");
    RUN_UNTIL(peers_connected(nodes[1].peers, 2));
    return fd;
}

START_TEST(a_peer_that_does_not_read_fills_only_its_bound)
{
    config.queue_bytes_max = 4u * 1024 * 1024;
    config.unacked_ms = 600000;
    const int fd = deaf_peer();
    unsigned dropped = 0;
    for (unsigned i = 0; i < 1000; i++) {
        dropped += !send_number(1, 2, i, 64u * 1024);
        ck_assert_uint_le(peers_queue_bytes(nodes[1].peers, 2), config.queue_bytes_max);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    ck_assert_uint_gt(dropped, 100);
    ck_assert(peers_connected(nodes[1].peers, 2));
    close(fd);
    RUN_UNTIL(nodes[1].downs[2] == 1);
    ck_assert_uint_eq(peers_queue_bytes(nodes[1].peers, 2), 0);
}
END_TEST

START_TEST(a_link_on_which_nothing_arrives_is_dropped)
{
    config.unacked_ms = 100;
    config.idle_ms = 600000;
    const int fd = deaf_peer();
    for (unsigned i = 0; peers_connected(nodes[1].peers, 2) && send_number(1, 2, i, 64u * 1024); i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    RUN_UNTIL(nodes[1].downs[2] == 1);
    ck_assert_ptr_nonnull(strstr(nodes[1].text, uv_strerror(UV_ETIMEDOUT)));
    close(fd);
}
END_TEST

START_TEST(frames_of_a_turn_go_out_without_another_event)
{
    connect_pair();
    ck_assert(send_number(1, 2, 0, 4));
    ck_assert(send_number(1, 2, 1, 4));
    peers_flush(nodes[1].peers);
    ck_assert_uint_eq(peers_queue_bytes(nodes[1].peers, 2), 0);
    ck_assert(send_number(1, 2, 2, 4));
    RUN_UNTIL(nodes[2].frames == 3);
    check_numbers(&nodes[2], 0);
}
END_TEST

START_TEST(reconnects_when_the_peer_comes_back)
{
    config.backoff_max_ms = 100;
    const unsigned port = port_reserve();
    connect_pair_at(port);
    ck_assert(send_number(1, 2, 0, 4));
    RUN_UNTIL(nodes[2].frames == 1);
    node_stop(2);
    RUN_UNTIL(nodes[1].downs[2] == 1);
    ck_assert(!send_number(1, 2, 1, 4));
    run_for(700); /* without a bound the next attempts would be 320 and 640 ms apart */
    uv_update_time(&loop);
    const uint64_t back_ms = uv_now(&loop);
    node_start(2, port);
    RUN_UNTIL(peers_connected(nodes[1].peers, 2));
    ck_assert_uint_le(uv_now(&loop) - back_ms, 100 + 100);
    ck_assert_uint_eq(nodes[1].ups[2], 2);
    ck_assert(send_number(1, 2, 1, 4));
    RUN_UNTIL(nodes[2].frames == 2);
}
END_TEST

START_TEST(a_peer_that_dials_us_is_dialled_at_once)
{
    config.backoff_max_ms = config.backoff_min_ms = 60000;
    const unsigned port = port_reserve();
    node_start(1, 0);
    peers_add(nodes[1].peers, 2, "127.0.0.1", port);
    RUN_UNTIL(strstr(nodes[1].text, "not up") != NULL);
    node_start(2, port);
    peers_add(nodes[2].peers, 1, "127.0.0.1", nodes[1].port);
    RUN_UNTIL(peers_connected(nodes[1].peers, 2)); /* would take a minute by back-off alone */
}
END_TEST

START_TEST(an_unreachable_peer_is_logged_once)
{
    node_start(1, 0);
    peers_add(nodes[1].peers, 2, "127.0.0.1", port_reserve());
    run_for(300);
    char *first = strstr(nodes[1].text, "connection refused");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(strstr(first + 1, "connection refused"));
}
END_TEST

START_TEST(a_hello_of_another_cluster_is_refused_and_logged_once)
{
    nodes[2].cluster = "b";
    node_start(1, 0);
    node_start(2, 0);
    peers_add(nodes[1].peers, 2, "127.0.0.1", nodes[2].port);
    RUN_UNTIL(nodes[2].judged >= 5);
    ck_assert(!peers_connected(nodes[1].peers, 2));
    ck_assert_uint_eq(nodes[1].warnings, 1);
    ck_assert_ptr_nonnull(strstr(nodes[1].last_warning, "refuses us: another cluster"));
    ck_assert_uint_eq(nodes[2].warnings, 1);
    ck_assert_ptr_nonnull(strstr(nodes[2].last_warning, "refused: another cluster"));
    /* At the slowest from the first refusal on: never sooner than half the longest back-off. */
    for (unsigned i = 1; i < 5; i++)
        ck_assert_uint_ge(nodes[2].judged_at_ms[i] - nodes[2].judged_at_ms[i - 1], 24);
}
END_TEST

START_TEST(another_node_at_the_address_is_refused)
{
    node_start(1, 0);
    node_start(2, 0);
    peers_add(nodes[1].peers, 3, "127.0.0.1", nodes[2].port);
    RUN_UNTIL(nodes[1].warnings > 0);
    ck_assert_ptr_nonnull(strstr(nodes[1].last_warning, "another node"));
    ck_assert(!peers_connected(nodes[1].peers, 3));
}
END_TEST

START_TEST(bytes_of_another_protocol_end_the_connection)
{
    node_start(1, 0);
    int fd = stranger_new(&nodes[1]);
    stranger_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    stranger_expect_end(fd);
    ck_assert_uint_eq(nodes[1].warnings, 1);
    ck_assert_ptr_nonnull(strstr(nodes[1].last_warning, "not a Lockstep link"));
    ck_assert_uint_eq(nodes[1].judged, 0);
}
END_TEST

START_TEST(an_oversized_hello_ends_the_connection)
{
    static const char hello[PEER_HELLO_BYTES_MAX + 1];
    node_start(1, 0);
    int fd = stranger_new(&nodes[1]);
    stranger_send_frame(fd, FRAME_HELLO, hello, sizeof(hello));
    stranger_expect_end(fd);
    ck_assert_ptr_nonnull(strstr(nodes[1].last_warning, "larger than allowed"));
}
END_TEST

START_TEST(an_oversized_frame_ends_the_connection)
{
    config.frame_bytes_max = 1500;
    static const char payload[1501];
    node_start(1, 0);
    int fd = stranger_new(&nodes[1]);
    stranger_hello(fd, "cluster a node 2");
    stranger_send_frame(fd, FRAME_DATA, payload, 1500);
    stranger_send_frame(fd, FRAME_DATA, payload, 1501);
    stranger_expect_end(fd);
    ck_assert_uint_eq(nodes[1].frames, 1);
    ck_assert_ptr_nonnull(strstr(nodes[1].last_warning, "larger than allowed"));
}
END_TEST

START_TEST(a_corrupted_frame_ends_the_connection)
{
    node_start(1, 0);
    _Alignas(8) char frame[64];
    const struct iovec piece = {"payload", 7};
    const size_t len = frame_wire_bytes(7);
    /* Every byte, padding included; those of magic, version, kind and length may fail in their own way. */
    for (size_t i = 0; i < len; i++) {
        int fd = stranger_new(&nodes[1]);
        stranger_hello(fd, "cluster a node 2");
        frame_write(frame, FRAME_DATA, &piece, 1, 7);
        stranger_send(fd, frame, len);
        frame[i] = (char)(frame[i] ^ 4);
        stranger_send(fd, frame, len);
        shutdown(fd, SHUT_WR); /* a larger length would wait for more */
        stranger_expect_end(fd);
        ck_assert_uint_eq(nodes[1].frames, i + 1);
    }
    ck_assert_ptr_nonnull(strstr(nodes[1].text, "checksum mismatch"));
}
END_TEST

START_TEST(a_frame_before_the_hello_ends_the_connection)
{
    node_start(1, 0);
    int fd = stranger_new(&nodes[1]);
    stranger_send_frame(fd, FRAME_DATA, "x", 1);
    stranger_expect_end(fd);
    ck_assert_uint_eq(nodes[1].frames, 0);
}
END_TEST

START_TEST(a_frame_that_the_owner_rejects_ends_the_connection)
{
    connect_pair();
    nodes[2].reject_frames = true;
    ck_assert(send_number(1, 2, 0, 4));
    RUN_UNTIL(nodes[1].downs[2] == 1);
    nodes[2].reject_frames = false;
    RUN_UNTIL(peers_connected(nodes[1].peers, 2));
    ck_assert(send_number(1, 2, 1, 4));
    RUN_UNTIL(nodes[2].frames == 2);
    ck_assert_uint_eq(nodes[2].connections, 2);
}
END_TEST

START_TEST(a_new_connection_of_a_peer_ends_its_older_one)
{
    node_start(1, 0);
    int old = stranger_new(&nodes[1]);
    stranger_hello(old, "cluster a node 2");
    stranger_send_frame(old, FRAME_DATA, "x", 1);
    RUN_UNTIL(nodes[1].frames == 1);
    const uint64_t connection = nodes[1].connection;
    int new = stranger_new(&nodes[1]);
    stranger_hello(new, "cluster a node 2");
    stranger_send_frame(new, FRAME_DATA, "y", 1);
    stranger_expect_end(old);
    RUN_UNTIL(nodes[1].frames == 2);
    ck_assert_uint_gt(nodes[1].connection, connection);
    close(new);
}
END_TEST

START_TEST(a_quiet_link_stays_up_by_pings)
{
    config.idle_ms = 150;
    connect_pair();
    run_for(600);
    ck_assert_uint_eq(nodes[1].ups[2], 1);
    ck_assert_uint_eq(nodes[1].downs[2], 0);
    ck_assert_uint_eq(nodes[2].downs[1], 0);
}
END_TEST

START_TEST(a_silent_acceptor_is_dropped)
{
    config.idle_ms = 60;
    node_start(1, 0);
    node_start(2, 0);
    /* Something listens there but never answers. */
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t address_len = sizeof(address);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    getsockname(listener, (struct sockaddr *)&address, &address_len);
    peers_add(nodes[1].peers, 2, "127.0.0.1", ntohs(address.sin_port));
    RUN_UNTIL(strstr(nodes[1].text, "no hello in time") != NULL);
    /* It says hello, but then answers no ping. */
    int fd = -1;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        close(fd);
    RUN_UNTIL((fd = accept(listener, NULL, NULL)) >= 0);
    stranger_hello(fd, "cluster a node 2");
    RUN_UNTIL(nodes[1].ups[2] == 1);
    RUN_UNTIL(nodes[1].downs[2] == 1);
    ck_assert_ptr_nonnull(strstr(nodes[1].text, "no sign of life"));
    close(fd);
    close(listener);
}
END_TEST

START_TEST(a_silent_opener_is_dropped)
{
    config.idle_ms = 60;
    node_start(1, 0);
    int mute = stranger_new(&nodes[1]);
    int greeted = stranger_new(&nodes[1]);
    stranger_hello(greeted, "cluster a node 2");
    stranger_expect_end(mute);
    stranger_expect_end(greeted);
    ck_assert_ptr_nonnull(strstr(nodes[1].text, "no hello in time"));
    ck_assert_ptr_nonnull(strstr(nodes[1].text, "silent for too long"));
}
END_TEST

START_TEST(a_removed_peer_is_gone)
{
    connect_pair();
    peers_remove(nodes[1].peers, 2);
    ck_assert(!peers_connected(nodes[1].peers, 2));
    ck_assert(!send_number(1, 2, 0, 4));
    RUN_UNTIL(nodes[2].downs[1] >= 1);
    ck_assert_uint_eq(nodes[1].downs[2], 0);
}
END_TEST

START_TEST(a_peer_can_move_to_another_address)
{
    connect_pair();
    node_start(3, 0);
    nodes[3].id = 2; /* answers as node 2 from now on */
    peers_add(nodes[1].peers, 2, "127.0.0.1", nodes[3].port);
    RUN_UNTIL(nodes[1].ups[2] == 2);
    ck_assert(send_number(1, 2, 0, 4));
    RUN_UNTIL(nodes[3].frames == 1);
    ck_assert_uint_eq(nodes[2].frames, 0);
    nodes[3].id = 3;
}
END_TEST

START_TEST(names_are_resolved)
{
    node_start(1, 0);
    node_start(2, 0);
    peers_add(nodes[1].peers, 2, "localhost", nodes[2].port);
    RUN_UNTIL(peers_connected(nodes[1].peers, 2));
}
END_TEST

START_TEST(closing_while_resolving_and_connecting)
{
    const unsigned port = port_reserve();
    node_start(1, 0);
    peers_add(nodes[1].peers, 2, "localhost", port);
    peers_add(nodes[1].peers, 3, "127.0.0.1", port);
    uv_run(&loop, UV_RUN_NOWAIT);
}
END_TEST

START_TEST(closing_with_frames_queued)
{
    connect_pair();
    for (uint32_t i = 0; i < 200; i++)
        send_number(1, 2, i, 100000);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert(send_number(1, 2, 1, 100000));
}
END_TEST

START_TEST(too_many_strangers_do_not_keep_a_peer_out)
{
    int strangers[200];
    node_start(1, 0);
    for (unsigned i = 0; i < 200; i++) {
        strangers[i] = stranger_new(&nodes[1]);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    node_start(2, 0);
    peers_add(nodes[2].peers, 1, "127.0.0.1", nodes[1].port);
    RUN_UNTIL(peers_connected(nodes[2].peers, 1));
    for (unsigned i = 0; i < 200; i++)
        close(strangers[i]);
}
END_TEST

START_TEST(a_frame_reader_takes_any_split)
{
    _Alignas(8) char wire[512];
    size_t len = 0;
    const char *texts[] = {"", "a", "12345678", "a longer payload, not a multiple of eight"};
    for (size_t i = 0; i < 4; i++) {
        const struct iovec piece = {(void *)(uintptr_t)texts[i], strlen(texts[i])};
        frame_write(wire + len, FRAME_DATA, &piece, 1, piece.iov_len);
        len += frame_wire_bytes(piece.iov_len);
    }
    for (size_t split = 0; split <= len; split++) {
        struct frame_reader reader;
        unsigned n = 0;
        frame_reader_init(&reader, 1000);
        for (size_t at = 0; at < len;) {
            const size_t end = at < split ? split : len;
            char *space;
            size_t room;
            ck_assert_int_eq(frame_reader_space(&reader, 8, &space, &room), FRAME_OK);
            room = room < end - at ? room : end - at;
            memcpy(space, wire + at, room);
            frame_reader_fed(&reader, room);
            at += room;
            enum frame_kind kind;
            const void *payload;
            size_t bytes;
            enum frame_status status;
            while ((status = frame_reader_next(&reader, &kind, &payload, &bytes)) == FRAME_OK) {
                ck_assert_uint_lt(n, 4);
                ck_assert_uint_eq(bytes, strlen(texts[n]));
                ck_assert_mem_eq(payload, texts[n], bytes);
                ck_assert_uint_eq((uintptr_t)payload % 8, 0);
                n++;
            }
            ck_assert_int_eq(status, FRAME_AGAIN);
        }
        ck_assert_uint_eq(n, 4);
        frame_reader_fini(&reader);
    }
}
END_TEST

START_TEST(an_announced_frame_costs_nothing_before_bytes_arrive)
{
    struct frame_reader reader;
    _Alignas(8) char wire[16];
    char *space;
    size_t len;
    frame_write(wire, FRAME_DATA, NULL, 0, 0);
    wire[3] = 4; /* 64 MiB */
    frame_reader_init(&reader, 80u * 1024 * 1024);
    ck_assert_int_eq(frame_reader_space(&reader, 4096, &space, &len), FRAME_OK);
    memcpy(space, wire, sizeof(wire));
    frame_reader_fed(&reader, sizeof(wire));
    enum frame_kind kind;
    const void *payload;
    ck_assert_int_eq(frame_reader_next(&reader, &kind, &payload, &len), FRAME_AGAIN);
    ck_assert_int_eq(frame_reader_space(&reader, 4096, &space, &len), FRAME_OK);
    ck_assert_uint_lt(reader.capacity, 64 * 1024);
    frame_reader_fini(&reader);
}
END_TEST

START_TEST(the_wire_format_is_pinned)
{
    _Alignas(8) unsigned char frame[32];
    /* docs/FORMATS.md, section Links. */
    static const unsigned char expected[24] = {0x05, 0,    0,    0,    'L', 'K', 1,   2,   0xa1, 0x16, 0x37, 0x03,
                                               0x5a, 0x51, 0x5b, 0x18, 'h', 'e', 'l', 'l', 'o',  0,    0,    0};
    const struct iovec pieces[] = {{"he", 2}, {"llo", 3}};
    frame_write(frame, FRAME_DATA, pieces, 2, 5);
    ck_assert_uint_eq(frame_wire_bytes(5), sizeof(expected));
    ck_assert_mem_eq(frame, expected, sizeof(expected));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peer");
    TCase *tcase = tcase_create("peer");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_pair_connects_both_ways);
    tcase_add_test(tcase, three_nodes_connect_each_with_each);
    tcase_add_test(tcase, frames_arrive_whole_and_in_order);
    tcase_add_test(tcase, a_frame_of_many_megabytes);
    tcase_add_test(tcase, empty_frames_and_no_pieces);
    tcase_add_test(tcase, nothing_is_queued_without_a_connection);
    tcase_add_test(tcase, the_queue_is_bounded);
    tcase_add_test(tcase, a_peer_that_does_not_read_fills_only_its_bound);
    tcase_add_test(tcase, a_link_on_which_nothing_arrives_is_dropped);
    tcase_add_test(tcase, frames_of_a_turn_go_out_without_another_event);
    tcase_add_test(tcase, reconnects_when_the_peer_comes_back);
    tcase_add_test(tcase, a_peer_that_dials_us_is_dialled_at_once);
    tcase_add_test(tcase, an_unreachable_peer_is_logged_once);
    tcase_add_test(tcase, a_hello_of_another_cluster_is_refused_and_logged_once);
    tcase_add_test(tcase, another_node_at_the_address_is_refused);
    tcase_add_test(tcase, bytes_of_another_protocol_end_the_connection);
    tcase_add_test(tcase, an_oversized_hello_ends_the_connection);
    tcase_add_test(tcase, an_oversized_frame_ends_the_connection);
    tcase_add_test(tcase, a_corrupted_frame_ends_the_connection);
    tcase_add_test(tcase, a_frame_before_the_hello_ends_the_connection);
    tcase_add_test(tcase, a_frame_that_the_owner_rejects_ends_the_connection);
    tcase_add_test(tcase, a_new_connection_of_a_peer_ends_its_older_one);
    tcase_add_test(tcase, a_quiet_link_stays_up_by_pings);
    tcase_add_test(tcase, a_silent_acceptor_is_dropped);
    tcase_add_test(tcase, a_silent_opener_is_dropped);
    tcase_add_test(tcase, a_removed_peer_is_gone);
    tcase_add_test(tcase, a_peer_can_move_to_another_address);
    tcase_add_test(tcase, names_are_resolved);
    tcase_add_test(tcase, closing_while_resolving_and_connecting);
    tcase_add_test(tcase, closing_with_frames_queued);
    tcase_add_test(tcase, too_many_strangers_do_not_keep_a_peer_out);
    tcase_add_test(tcase, a_frame_reader_takes_any_split);
    tcase_add_test(tcase, an_announced_frame_costs_nothing_before_bytes_arrive);
    tcase_add_test(tcase, the_wire_format_is_pinned);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
