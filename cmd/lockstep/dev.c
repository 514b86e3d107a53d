/* `lockstep dev`: a local cluster in the foreground.
 *
 * Options are checked and all ports tried before anything starts. Then: start every node, wait until each answers a
 * read, say `ready`, and watch until a signal comes or all nodes have ended. Signals arrive through a
 * signalfd, children's deaths as SIGCHLD, and with --logs their output through pipes: one poll loop sees it all. Nodes
 * are in process groups of their own (Ctrl-C reaches only this process, which then ends them in order) and die with
 * this process. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/node_status.h"

#define NODES_MAX 9u
#define PEER_PORT_OFFSET 10000u
#define READY_TIMEOUT_MS 60000
#define READY_POLL_MS 50
#define STATUS_TIMEOUT_MS 500
#define STOP_TIMEOUT_MS 10000
#define PATH_BYTES_MAX 4096
#define LINE_BYTES_MAX 4096
#define LOG_TAIL_BYTES 2000
#define FLAGS_MAX 128

static const char usage_text[] =
    "Usage: lockstep dev [OPTION]... [-- LOCKSTEPD-FLAG...]\n"
    "Run a local cluster in the foreground, all nodes on 127.0.0.1. Prints `ready` when clients can connect. Ctrl-C "
    "ends\n"
    "it; the data stays for the next start. A node that dies is reported, not restarted.\n"
    "\n"
    "  --nodes N                 how many (1 to 9, default 3)\n"
    "  --dir D                   data directory, a subdirectory per node (default ./data); each node's log is "
    "D/node-I/log\n"
    "  --port P                  of the first node, the others follow: P+1, ... (default 7379). Nodes talk to each "
    "other on\n"
    "                            P+10000, ...\n"
    "  --election-timeout-ms T   passed on to the nodes (default: theirs)\n"
    "  --logs                    show the nodes' logs on stderr, each line with its node, as well as in the files\n"
    "  --lockstepd PATH          the server (default: beside this program)\n"
    "  --help                    show this\n"
    "  -- FLAG...                any further flags of lockstepd\n"
    "\n"
    "Exit codes: 0 ended by Ctrl-C or SIGTERM; 1 a port is in use, a node failed to start, or all nodes ended by\n"
    "themselves; 2 wrong command line.\n";

struct dev_node {
    unsigned number; /* 1.. */
    unsigned port, peer_port;
    char dir[PATH_BYTES_MAX], log[PATH_BYTES_MAX + 8];
    pid_t pid; /* 0: not running */
    bool died; /* ended by itself */
    int log_fd;
    off_t log_start; /* what was in the log before this start */
    int output_fd;   /* --logs: the read end of the node's stderr; -1: none */
    char line[LINE_BYTES_MAX];
    size_t line_len;
};

struct dev {
    uint32_t n_nodes, port, election_timeout_ms; /* 0: not given */
    char *dir;
    char lockstepd[PATH_BYTES_MAX];
    bool logs;
    char **flags; /* passed on */
    int n_flags;
    struct dev_node nodes[NODES_MAX];
    int signal_fd;
    bool stopping;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- before the start ----------------------------------------------------------------------------------------------
 */

static bool dev_find_lockstepd(struct dev *dev)
{
    if (dev->lockstepd[0] == '\0') {
        ssize_t len = readlink("/proc/self/exe", dev->lockstepd, sizeof(dev->lockstepd) - sizeof("lockstepd"));
        char *slash = NULL;
        if (len > 0) {
            dev->lockstepd[len] = '\0';
            slash = strrchr(dev->lockstepd, '/');
        }
        if (slash == NULL) {
            fputs("lockstep: cannot tell where this program is: give --lockstepd PATH\n", stderr);
            return false;
        }
        memcpy(slash + 1, "lockstepd", sizeof("lockstepd"));
    }
    if (access(dev->lockstepd, X_OK) != 0) {
        fprintf(stderr, "lockstep: cannot run %s: %s (--lockstepd PATH names another)\n", dev->lockstepd,
                strerror(errno));
        return false;
    }
    return true;
}

static bool port_is_free(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    bool free_now = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0;
    int error = errno;
    close(fd);
    if (!free_now) {
        fprintf(stderr, "lockstep: port %u: %s%s\n", port, strerror(error),
                error == EADDRINUSE ? ". Is another cluster running? Stop it, or choose other ports with --port" : "");
    }
    return free_now;
}

static bool dir_make(const char *dir)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "lockstep: cannot create %s: %s\n", dir, strerror(errno));
        return false;
    }
    return true;
}

static bool dev_prepare(struct dev *dev)
{
    if (dev->port + dev->n_nodes - 1 + PEER_PORT_OFFSET > 65535) {
        fprintf(stderr, "lockstep: --port %" PRIu32 " is too high: peers listen on ports 10000 above\n", dev->port);
        return false;
    }
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        struct dev_node *node = &dev->nodes[i];
        node->number = i + 1;
        node->port = dev->port + i;
        node->peer_port = node->port + PEER_PORT_OFFSET;
        node->log_fd = node->output_fd = -1;
        int len = snprintf(node->dir, sizeof(node->dir), "%s/node-%u", dev->dir, node->number);
        if (len < 0 || (size_t)len >= sizeof(node->dir)) {
            fputs("lockstep: --dir is too long\n", stderr);
            return false;
        }
        snprintf(node->log, sizeof(node->log), "%s/node-%u/log", dev->dir, node->number);
    }
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        if (!port_is_free(dev->nodes[i].port) || !port_is_free(dev->nodes[i].peer_port)) {
            return false;
        }
    }
    if (!dev_find_lockstepd(dev) || !dir_make(dev->dir)) {
        return false;
    }
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        struct dev_node *node = &dev->nodes[i];
        if (!dir_make(node->dir)) {
            return false;
        }
        node->log_fd = open(node->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (node->log_fd < 0) {
            fprintf(stderr, "lockstep: cannot write %s: %s\n", node->log, strerror(errno));
            return false;
        }
        node->log_start = lseek(node->log_fd, 0, SEEK_END);
    }
    return true;
}

/* --- starting a node -----------------------------------------------------------------------------------------------
 */

/* The node's command line, in one block of memory: pointers, then text. */
struct arguments {
    char *argv[FLAGS_MAX + 1];
    int argc;
    char text[8192];
    size_t text_len;
};

__attribute__((format(printf, 2, 3))) static void arguments_add(struct arguments *arguments, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = sizeof(arguments->text) - arguments->text_len;
    int len = vsnprintf(arguments->text + arguments->text_len, room, format, args);
    va_end(args);
    if (len >= 0 && (size_t)len < room && arguments->argc < FLAGS_MAX) {
        arguments->argv[arguments->argc++] = arguments->text + arguments->text_len;
        arguments->text_len += (size_t)len + 1;
    }
}

static void arguments_fill(struct arguments *arguments, const struct dev *dev, const struct dev_node *node)
{
    arguments->argc = 0;
    arguments->text_len = 0;
    arguments->argv[arguments->argc++] = (char *)(uintptr_t)dev->lockstepd;
    arguments_add(arguments, "--id");
    arguments_add(arguments, "%u", node->number);
    arguments_add(arguments, "--dir");
    arguments_add(arguments, "%s", node->dir);
    arguments_add(arguments, "--bind");
    arguments_add(arguments, "127.0.0.1");
    arguments_add(arguments, "--port");
    arguments_add(arguments, "%u", node->port);
    arguments_add(arguments, "--peer-port");
    arguments_add(arguments, "%u", node->peer_port);
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        arguments_add(arguments, "--member");
        arguments_add(arguments, "%u 127.0.0.1:%u:%u", dev->nodes[i].number, dev->nodes[i].port,
                      dev->nodes[i].peer_port);
    }
    if (dev->election_timeout_ms > 0) {
        arguments_add(arguments, "--election-timeout-ms");
        arguments_add(arguments, "%" PRIu32, dev->election_timeout_ms);
    }
    for (int i = 0; i < dev->n_flags && arguments->argc < FLAGS_MAX; i++) {
        arguments->argv[arguments->argc++] = dev->flags[i];
    }
    arguments->argv[arguments->argc] = NULL;
}

/* In the child. */
static void node_exec(const struct arguments *arguments, const struct dev_node *node, int output_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_FAILED); /* the parent died before the line above */
    }
    int input_fd = open("/dev/null", O_RDONLY);
    int log_fd = output_fd >= 0 ? output_fd : node->log_fd;
    dup2(input_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execv(arguments->argv[0], arguments->argv);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", arguments->argv[0], strerror(errno));
    _exit(127);
}

static bool node_start(struct dev *dev, struct dev_node *node)
{
    struct arguments arguments;
    int pipe_fds[2] = {-1, -1};
    arguments_fill(&arguments, dev, node);
    if (dev->logs && pipe2(pipe_fds, O_CLOEXEC) != 0) {
        fprintf(stderr, "lockstep: cannot make a pipe: %s\n", strerror(errno));
        return false;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        node_exec(&arguments, node, pipe_fds[1], parent);
    }
    if (pipe_fds[1] >= 0) {
        close(pipe_fds[1]);
        fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
        node->output_fd = pipe_fds[0];
    }
    if (pid < 0) {
        fprintf(stderr, "lockstep: cannot start a process: %s\n", strerror(errno));
        return false;
    }
    node->pid = pid;
    printf("node %u  127.0.0.1:%u  pid %d  log %s\n", node->number, node->port, (int)pid, node->log);
    return true;
}

/* --- the nodes' output (--logs) ------------------------------------------------------------------------------------
 */

static void output_line(const struct dev_node *node, size_t len)
{
    (void)!write(node->log_fd, node->line, len);
    fprintf(stderr, "[%u] %.*s%s", node->number, (int)len, node->line, node->line[len - 1] == '\n' ? "" : "\n");
}

static void output_read(struct dev_node *node)
{
    for (;;) {
        ssize_t n = read(node->output_fd, node->line + node->line_len, sizeof(node->line) - node->line_len);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                close(node->output_fd);
                node->output_fd = -1;
            }
            return;
        }
        node->line_len += (size_t)n;
        for (;;) {
            char *end = memchr(node->line, '\n', node->line_len);
            size_t len = end != NULL ? (size_t)(end - node->line) + 1 : node->line_len;
            if (end == NULL && node->line_len < sizeof(node->line)) {
                break;
            }
            output_line(node, len); /* a line too long is cut in two */
            node->line_len -= len;
            memmove(node->line, node->line + len, node->line_len);
        }
    }
}

/* --- deaths and signals --------------------------------------------------------------------------------------------
 */

/* The end of what the node has written since it was started: why it died, most likely. */
static void log_tail_show(const struct dev_node *node)
{
    char tail[LOG_TAIL_BYTES];
    int fd = open(node->log, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t start = end - (off_t)sizeof(tail) > node->log_start ? end - (off_t)sizeof(tail) : node->log_start;
    ssize_t n = fd < 0 ? 0 : pread(fd, tail, sizeof(tail), start);
    if (fd >= 0) {
        close(fd);
    }
    if (n > 0) {
        fprintf(stderr, "--- the end of %s:\n%.*s---\n", node->log, (int)n, tail);
    }
}

static void node_ended(const struct dev *dev, struct dev_node *node, int status)
{
    node->pid = 0;
    if (dev->stopping && (!WIFEXITED(status) || WEXITSTATUS(status) == 0)) {
        return;
    }
    node->died = true;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "node %u was killed by signal %d (%s)\n", node->number, WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    } else {
        fprintf(stderr, "node %u ended with exit status %d\n", node->number, WEXITSTATUS(status));
    }
    if (!dev->logs && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        log_tail_show(node);
    }
}

static void dev_reap(struct dev *dev)
{
    int status = 0;
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return;
        }
        for (uint32_t i = 0; i < dev->n_nodes; i++) {
            if (dev->nodes[i].pid == pid) {
                node_ended(dev, &dev->nodes[i], status);
            }
        }
    }
}

static uint32_t dev_running(const struct dev *dev)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        n += dev->nodes[i].pid != 0 ? 1 : 0;
    }
    return n;
}

static bool dev_any_died(const struct dev *dev)
{
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        if (dev->nodes[i].died) {
            return true;
        }
    }
    return false;
}

/* Wait for something to happen, at most timeout_ms (-1: no limit). True: asked to end. */
static bool dev_poll(struct dev *dev, int timeout_ms)
{
    struct pollfd fds[NODES_MAX + 1] = {{.fd = dev->signal_fd, .events = POLLIN}};
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        fds[i + 1] = (struct pollfd){.fd = dev->nodes[i].output_fd, .events = POLLIN};
    }
    bool end = false;
    if (poll(fds, dev->n_nodes + 1, timeout_ms) > 0) {
        for (uint32_t i = 0; i < dev->n_nodes; i++) {
            if (fds[i + 1].revents != 0) {
                output_read(&dev->nodes[i]);
            }
        }
        struct signalfd_siginfo info;
        while (read(dev->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            end = end || info.ssi_signo != SIGCHLD;
        }
    }
    dev_reap(dev);
    return end;
}

static bool dev_watch_signals(struct dev *dev)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    signal(SIGPIPE, SIG_IGN); /* whoever reads our output may go away; the cluster stays */
    sigprocmask(SIG_BLOCK, &signals, NULL);
    dev->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return dev->signal_fd >= 0;
}

/* --- the course of things ------------------------------------------------------------------------------------------
 */

/* Ask to end, wait, then force. */
static void dev_stop(struct dev *dev)
{
    dev->stopping = true;
    for (uint32_t i = 0; i < dev->n_nodes; i++) {
        if (dev->nodes[i].pid != 0) {
            kill(dev->nodes[i].pid, SIGTERM);
            kill(dev->nodes[i].pid, SIGCONT); /* a stopped one could not obey */
        }
    }
    uint64_t deadline_ms = now_ms() + STOP_TIMEOUT_MS;
    while (dev_running(dev) > 0) {
        uint64_t now = now_ms();
        if (now < deadline_ms) {
            dev_poll(dev, (int)(deadline_ms - now));
            continue;
        }
        for (uint32_t i = 0; i < dev->n_nodes; i++) {
            if (dev->nodes[i].pid != 0) {
                fprintf(stderr, "node %u does not end: killed\n", dev->nodes[i].number);
                kill(dev->nodes[i].pid, SIGKILL);
            }
        }
        deadline_ms = now + STOP_TIMEOUT_MS;
    }
}

/* The node answers a read, which it can do only once the leader has applied its log. */
static bool node_serves(const struct address *address)
{
    static const char *const words[] = {"DBSIZE"};
    char error[CONNECTION_ERROR_MAX];
    struct reply_item item;
    struct connection *connection = connection_open(address, STATUS_TIMEOUT_MS, true, error);
    bool serves = connection != NULL && connection_call(connection, 1, words, &item) && item.type == ':';
    connection_close(connection);
    return serves;
}

/* All nodes serve and know the same leader: returns its id; 0: not yet. */
static uint64_t dev_leader(const struct dev *dev)
{
    uint64_t leader = 0;
    struct node_status *status = malloc(sizeof(*status));
    for (uint32_t i = 0; status != NULL && i < dev->n_nodes; i++) {
        struct address address = {.host = "127.0.0.1", .port = dev->nodes[i].port};
        char error[CONNECTION_ERROR_MAX];
        bool known = node_status_fetch(&address, STATUS_TIMEOUT_MS, status, error) && status->leader != 0 &&
                     node_serves(&address);
        if (!known || (leader != 0 && leader != status->leader)) {
            leader = 0;
            break;
        }
        leader = status->leader;
    }
    free(status);
    return leader;
}

/* Wait until clients can connect. 0: it will not come to that, and stderr says why, or the user has had enough. */
static uint64_t dev_wait_ready(struct dev *dev, bool *interrupted)
{
    uint64_t deadline_ms = now_ms() + READY_TIMEOUT_MS;
    while (now_ms() < deadline_ms) {
        *interrupted = dev_poll(dev, READY_POLL_MS);
        if (*interrupted || dev_any_died(dev)) {
            return 0;
        }
        uint64_t leader = dev_leader(dev);
        if (leader != 0) {
            return leader;
        }
    }
    fprintf(stderr, "lockstep: no leader after %d s; the nodes' logs say more\n", READY_TIMEOUT_MS / 1000);
    return 0;
}

static int dev_run(struct dev *dev)
{
    bool interrupted = false;
    printf("starting %" PRIu32 " node%s, data in %s\n", dev->n_nodes, dev->n_nodes == 1 ? "" : "s", dev->dir);
    bool started = true;
    for (uint32_t i = 0; started && i < dev->n_nodes; i++) {
        started = node_start(dev, &dev->nodes[i]);
    }
    uint64_t leader = started ? dev_wait_ready(dev, &interrupted) : 0;
    if (leader == 0) {
        dev_stop(dev);
        return interrupted ? EXIT_OK : EXIT_FAILED;
    }
    printf("node %" PRIu64 " leads; any node takes any command: redis-cli -p %" PRIu32 " SET greeting hello\n", leader,
           dev->port);
    puts("ready");
    while (!interrupted && dev_running(dev) > 0) {
        interrupted = dev_poll(dev, -1);
    }
    if (!interrupted) {
        fputs("lockstep: all nodes have ended\n", stderr);
        return EXIT_FAILED;
    }
    puts("stopping");
    dev_stop(dev);
    printf("stopped; the data stays in %s\n", dev->dir);
    return EXIT_OK;
}

static bool lockstepd_take(void *ctx, char *text)
{
    struct dev *dev = ctx;

    if (strlen(text) >= sizeof(dev->lockstepd)) {
        fputs("lockstep: --lockstepd is too long\n", stderr);
        return false;
    }
    memcpy(dev->lockstepd, text, strlen(text) + 1);
    return true;
}

int command_dev(int argc, char **argv)
{
    static char directory[] = "./data";
    static struct dev dev = {.n_nodes = 3, .port = ADDRESS_PORT_DEFAULT, .dir = directory}; /* large, there is one */
    const struct option_rule rules[] = {
        {.name = "nodes", .u32 = &dev.n_nodes, .min = 1, .max = NODES_MAX},
        {.name = "dir", .text = &dev.dir},
        {.name = "port", .u32 = &dev.port, .min = 1, .max = 65535},
        {.name = "election-timeout-ms", .u32 = &dev.election_timeout_ms, .min = 1, .max = 3600000},
        {.name = "logs", .flag = &dev.logs},
        {.name = "lockstepd", .take = lockstepd_take, .ctx = &dev},
        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "LOCKSTEPD-FLAG", .operands_max = INT_MAX};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
        fprintf(stderr, "lockstep dev: unexpected \"%s\" (lockstep dev --help)\n", argv[optind]);
        return EXIT_USAGE;
    }
    dev.flags = argv + optind;
    dev.n_flags = argc - optind;
    if (dev.n_flags > 64) {
        fputs("lockstep: more than 64 flags for lockstepd\n", stderr);
        return EXIT_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!dev_watch_signals(&dev)) {
        fprintf(stderr, "lockstep: cannot watch for signals: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    return dev_prepare(&dev) ? dev_run(&dev) : EXIT_FAILED;
}
