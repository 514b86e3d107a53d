/* lockstepd: read the configuration, open the log, start one node, stop it on a signal.
 *
 * Exit codes are those of sysexits.h; docs/OPERATIONS.md lists them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "cmd/lockstepd/config.h"
#include "cmd/lockstepd/join.h"
#include "cmd/lockstepd/leave.h"
#include "cmd/lockstepd/log.h"
#include "cmd/lockstepd/node.h"
#include "cmd/lockstepd/session.h"

/* The values of sysexits.h. */
enum exit_status {
    EXIT_OK = 0,
    EXIT_USAGE = 64,
    EXIT_PORT = 69,
    EXIT_FAIL_STOP = 70,
    EXIT_SYSTEM = 71,
    EXIT_CANNOT_CREATE = 73,
    EXIT_IO = 74,
    EXIT_PERMISSION = 77,
    EXIT_CONFIG = 78
};

struct program {
    uv_loop_t loop;
    struct config config;
    struct log *log;
    struct node *node;
    struct sessions *sessions;
    uv_signal_t signals[3];
    uv_async_t shutdown;
    struct leave leave;
    bool stopping;
};

static void print_help(void)
{
    const struct config_option *option;
    printf(
        "Usage: lockstepd [FILE] [--OPTION VALUE]...\n"
        "       lockstepd --help | --version\n"
        "\n"
        "Run one node of a Lockstep cluster. Options come from FILE, one `name value` per line, and from flags, which\n"
        "win. With no member line a new node is a cluster of its own.\n"
        "\n"
        "  --check-config  check FILE and flags, then exit\n"
        "  --help, -h      show this\n"
        "  --version, -v   show the version\n"
        "\n"
        "Options (default in brackets):\n");
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        printf("  --%s [%s]\n        %s\n", option->name, option->fallback[0] != '\0' ? option->fallback : "none",
               option->help);
    }
    printf(
        "\n"
        "Signals: TERM and INT stop the node gracefully, a second one at once; HUP opens the log file anew.\n"
        "Exit codes: 0 stopped as asked; 64 bad flag; 69 a port is in use; 70 fail-stop, the log's last lines say what "
        "to\ndo; 71 no memory or event loop; 73 the data directory is in use, or a log or pid file can't be made; 74 "
        "the data\ndirectory can't be read or written; 77 permission denied; 78 bad configuration, no answer to "
        "--join, or a data directory "
        "of another\ncluster or id; 128 + n ended at once by a second signal n.\n"
        "A first node: lockstepd --dir /tmp/lockstep\n");
}

/* What the arguments ask for besides starting; false: nothing. */
static bool asked_to_explain(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return true;
        }
        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-v") == 0) {
            printf("lockstepd %s\n", LOCKSTEP_VERSION);
            return true;
        }
    }
    return false;
}

/* Takes --check-config out of argv, so that only options are left. */
static bool take_check_flag(int *argc, char **argv)
{
    bool found = false;
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        if (i > 0 && strcmp(argv[i], "--check-config") == 0) {
            found = true;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    return found;
}

/* Returns 0 or an exit code, with a message on stderr. */
static int read_config(struct config *config, int argc, char **argv)
{
    char error[CONFIG_ERROR_MAX];
    int first = 1;
    if (!config_init(config)) {
        fprintf(stderr, "lockstepd: out of memory\n");
        return EXIT_SYSTEM;
    }
    if (argc > 1 && strncmp(argv[1], "--", 2) != 0) {
        first = 2;
        if (!config_read_file(config, argv[1], error)) {
            fprintf(stderr, "lockstepd: %s\n", error);
            return EXIT_CONFIG;
        }
    }
    if (!config_read_flags(config, argc, argv, first, error)) {
        fprintf(stderr, "lockstepd: %s\nlockstepd --help lists all options\n", error);
        return EXIT_USAGE;
    }
    if (!config_finish(config, error)) {
        fprintf(stderr, "lockstepd: %s\n", error);
        return EXIT_CONFIG;
    }
    return 0;
}

static void left_cb(void *ctx)
{
    struct program *program = ctx;
    sessions_stop(program->sessions);
    node_stop(program->node);
}

static void program_stop(struct program *program)
{
    if (program->stopping) {
        return;
    }
    program->stopping = true;
    uv_close((uv_handle_t *)&program->shutdown, NULL);
    /* The signal handles stay: a second signal ends the process at once. They don't keep the loop alive. */
    leave_begin(&program->leave, &program->loop, program->node, left_cb, program);
}

static void signal_cb(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;
    char text[128];
    if (number == SIGHUP) {
        bool ok = log_reopen(program->log);
        log_write(program->log, ok ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, 0,
                  ok ? "log file opened anew" : "the log file can't be opened anew, writing on to the old one");
        return;
    }
    if (program->stopping) {
        log_write(program->log, LOG_LEVEL_WARNING, 0, "second signal: ending at once");
        _exit(128 + number);
    }
    (void)snprintf(text, sizeof text, "signal %d: stopping", number);
    log_write(program->log, LOG_LEVEL_INFO, 0, text);
    program_stop(program);
}

static void shutdown_cb(uv_async_t *handle)
{
    program_stop(handle->data);
}

/* SHUTDOWN, inside a request of the node: stop it from the loop instead. */
static void shutdown_asked(void *ctx)
{
    struct program *program = ctx;
    if (!program->stopping) {
        (void)uv_async_send(&program->shutdown);
    }
}

static int watch_signals(struct program *program)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    int status = uv_async_init(&program->loop, &program->shutdown, shutdown_cb);
    if (status != 0) {
        return status;
    }
    program->shutdown.data = program;
    uv_unref((uv_handle_t *)&program->shutdown);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uv_signal_t *handle = &program->signals[i];
        if ((status = uv_signal_init(&program->loop, handle)) != 0 ||
            (status = uv_signal_start(handle, signal_cb, numbers[i])) != 0) {
            return status;
        }
        handle->data = program;
        uv_unref((uv_handle_t *)handle);
    }
    return 0;
}

static void close_cb(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Says that a file can't be made, and gives the exit code for it. */
static int cannot_create(const char *what, const char *path, int error)
{
    fprintf(stderr, "lockstepd: %s %s: %s\n", what, path != NULL ? path : "", strerror(error));
    return error == EACCES || error == EPERM || error == EROFS ? EXIT_PERMISSION : EXIT_CANNOT_CREATE;
}

/* Returns 0 or an exit code. */
static int write_pidfile(const struct program *program)
{
    const char *path = program->config.pidfile;
    FILE *file = path == NULL ? NULL : fopen(path, "we");
    if (path != NULL && file == NULL) {
        return cannot_create("pidfile", path, errno);
    }
    if (file != NULL) {
        (void)fprintf(file, "%ld\n", (long)getpid());
        if (fclose(file) != 0) {
            return cannot_create("pidfile", path, errno);
        }
    }
    return 0;
}

static int exit_code(int error)
{
    switch ((enum node_error)error) {
    case NODE_PORT:
        return EXIT_PORT;
    case NODE_CONFIG:
        return EXIT_CONFIG;
    case NODE_CORRUPT:
        return EXIT_FAIL_STOP;
    case NODE_IO:
        return EXIT_IO;
    case NODE_DENIED:
        return EXIT_PERMISSION;
    case NODE_BUSY:
        return EXIT_CANNOT_CREATE;
    }
    return EXIT_FAIL_STOP;
}

/* Returns the exit code. */
static int run(struct program *program)
{
    struct node_sessions callbacks;
    int status = watch_signals(program);
    if (status != 0) {
        fprintf(stderr, "lockstepd: %s\n", uv_strerror(status));
        return EXIT_SYSTEM;
    }
    program->sessions = sessions_new(shutdown_asked, program);
    if (program->sessions == NULL) {
        fprintf(stderr, "lockstepd: out of memory\n");
        return EXIT_SYSTEM;
    }
    sessions_callbacks(program->sessions, &callbacks);
    status = node_start(&program->loop, &program->config, &callbacks, &program->node);
    if (status == 0) {
        sessions_attach(program->sessions, program->node, &program->loop);
        log_write(program->log, LOG_LEVEL_INFO, replica_term(node_replica(program->node)), "ready");
    } else if (program->node != NULL) {
        program->stopping = true;
        node_stop(program->node);
    }
    (void)uv_run(&program->loop, UV_RUN_DEFAULT);
    if (program->node != NULL) {
        node_free(program->node);
    }
    sessions_free(program->sessions);
    log_write(program->log, LOG_LEVEL_INFO, 0, "stopped");
    return status == 0 ? EXIT_OK : exit_code(status);
}

static int run_on_loop(struct program *program)
{
    int status = uv_loop_init(&program->loop);
    if (status != 0) {
        fprintf(stderr, "lockstepd: %s\n", uv_strerror(status));
        return EXIT_SYSTEM;
    }
    int code = run(program);
    uv_walk(&program->loop, close_cb, NULL);
    (void)uv_run(&program->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&program->loop);
    return code;
}

static int start(struct program *program)
{
    struct config *config = &program->config;
    program->log = log_new(config->logfile, config->loglevel, config->id);
    if (program->log == NULL) {
        return cannot_create("logfile", config->logfile, errno);
    }
    config->log = program->log;
    int code = write_pidfile(program);
    if (code == 0) {
        code = run_on_loop(program);
        if (config->pidfile != NULL) {
            (void)unlink(config->pidfile);
        }
    }
    log_free(program->log);
    return code;
}

int main(int argc, char **argv)
{
    static struct program program;
    if (asked_to_explain(argc, argv)) {
        return EXIT_OK;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    bool check_only = take_check_flag(&argc, argv);
    int code = read_config(&program.config, argc, argv);
    char error[CONFIG_ERROR_MAX];
    if (code == 0 && !check_only && !join_prepare(&program.config, 30, error)) {
        fprintf(stderr, "lockstepd: %s\n", error);
        code = EXIT_CONFIG;
    }
    if (code == 0 && check_only) {
        printf("configuration is good\n");
    } else if (code == 0) {
        code = start(&program);
    }
    config_fini(&program.config);
    return code;
}
