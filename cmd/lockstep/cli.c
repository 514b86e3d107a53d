/* `lockstep cli`: sends commands and prints replies: one from the command line, one per line of stdin, or interactively
 * with line editing, history and completion. */
#include <ctype.h>
#include <editline/readline.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/connection.h"
#include "cmd/lockstep/words.h"

#define CONNECT_TIMEOUT_MS 5000
#define HISTORY_ENTRIES_MAX 5000
#define NAMES_MAX 1024
#define PATH_BYTES_MAX 4096

static const char usage_text[] =
    "Usage: lockstep cli [OPTION]... [COMMAND [ARGUMENT]...]\n"
    "Send commands to a node and print the replies. With a command: that one. Otherwise interactively, with history "
    "and\n"
    "completion of command names (Tab); or, if stdin is not a terminal, one command from each line.\n"
    "\n"
    "  --addr HOST:PORT  the node (default 127.0.0.1:7379)\n"
    "  --resp 2|3        protocol version (default 3)\n"
    "  --raw, --no-raw   print bare values, or values with their types (default: raw if stdout is not a terminal)\n"
    "  --help            show this\n"
    "\n"
    "Words are separated by blanks; \"...\" takes escapes as in C, '...' takes everything as it is. `exit` ends.\n"
    "History is kept in ~/.lockstep_history (LOCKSTEP_HISTORY names another file, an empty value none); lines with "
    "AUTH or\n"
    "HELLO are not.\n"
    "\n"
    "Exit codes: 0 done; 1 no connection; 2 wrong command line; 3 a reply was an error (command line and stdin).\n";

struct cli {
    struct address address;
    uint32_t proto;
    bool raw, interactive;
    struct connection *connection; /* NULL: not connected */
    bool transaction;              /* between MULTI and EXEC, for the prompt */
    bool error_seen;
};

/* --- the connection ------------------------------------------------------------------------------------------------
 */

static bool cli_hello(struct cli *cli)
{
    const char *const words[] = {"HELLO", "3"};
    struct reply_item item;
    if (!connection_call(cli->connection, 2, words, &item)) {
        return false;
    }
    if (item.type == '-') {
        cli->proto = 2; /* a server that knows no RESP3 speaks RESP2 on the same connection */
    }
    return true;
}

static bool cli_connect(struct cli *cli)
{
    char error[CONNECTION_ERROR_MAX];
    cli->transaction = false;
    cli->connection = connection_open(&cli->address, CONNECT_TIMEOUT_MS, false, error);
    if (cli->connection != NULL && cli->proto == 3 && !cli_hello(cli)) {
        snprintf(error, sizeof(error), "%s", connection_error(cli->connection));
        connection_close(cli->connection);
        cli->connection = NULL;
    }
    if (cli->connection == NULL) {
        fprintf(stderr, "lockstep: %s:%u: %s\n", cli->address.host, cli->address.port, error);
    }
    return cli->connection != NULL;
}

static void cli_disconnect(struct cli *cli)
{
    connection_close(cli->connection);
    cli->connection = NULL;
    cli->transaction = false;
}

/* Follow MULTI and EXEC, for the prompt only. */
static void cli_note_transaction(struct cli *cli, const char *name, bool error)
{
    if (strcasecmp(name, "multi") == 0 && !error) {
        cli->transaction = true;
    } else if (strcasecmp(name, "exec") == 0 || strcasecmp(name, "discard") == 0 || strcasecmp(name, "reset") == 0) {
        cli->transaction = false;
    }
}

/* Read and print replies up to the one that answers; out-of-band messages come before it. */
static bool cli_answer(struct cli *cli, const char *name)
{
    const char *data;
    size_t len;
    struct reply_item item = {0};
    do {
        struct reply_cursor cursor;
        if (!connection_read(cli->connection, &data, &len)) {
            return false;
        }
        reply_begin(&cursor, data, len);
        bool printed = reply_next(&cursor, &item) &&
                       (cli->raw ? reply_print_raw(stdout, data, len) : reply_print(stdout, data, len));
        if (!printed) {
            fputs("(a reply that cannot be shown)\n", stdout);
        }
    } while (item.type == '>');
    cli->error_seen = cli->error_seen || reply_is_error(&item);
    cli_note_transaction(cli, name, reply_is_error(&item));
    return true;
}

/* Send one command and print its reply. Never sent twice: whether a lost one was executed, only the server knows. */
static bool cli_execute(struct cli *cli, size_t n, const char *const *text, const size_t *lens)
{
    if (cli->connection == NULL && !cli_connect(cli)) {
        return false;
    }
    bool ok = connection_send(cli->connection, (int)n, text, lens) && cli_answer(cli, text[0]);
    fflush(stdout);
    if (!ok) {
        bool quit = strcasecmp(text[0], "quit") == 0 || strcasecmp(text[0], "shutdown") == 0;
        if (!quit) {
            fprintf(stderr, "lockstep: %s; whether the command was executed is not known\n",
                    connection_error(cli->connection));
        }
        cli_disconnect(cli);
        return quit;
    }
    return true;
}

/* One line of input. False: no connection. */
static bool cli_line(struct cli *cli, const char *line)
{
    struct words words;
    enum words_status status = words_split(line, &words);
    if (status != WORDS_OK) {
        fputs(status == WORDS_UNBALANCED ? "lockstep: a quote is not closed, or something follows it directly\n"
                                         : "lockstep: too many words\n",
              stderr);
        cli->error_seen = true;
        return true;
    }
    bool ok = words.n == 0 || cli_execute(cli, words.n, (const char *const *)words.text, words.lens);
    words_free(&words);
    return ok;
}

/* --- completion: the server's command names ------------------------------------------------------------------------
 */

static struct {
    char *names[NAMES_MAX];
    size_t n;
} completion; /* readline's callbacks take no context */

static void completion_add(const struct reply_item *item)
{
    char *name = completion.n < NAMES_MAX ? strndup(item->text, item->len) : NULL;
    if (name != NULL) {
        for (char *c = name; *c != '\0'; c++) {
            *c = (char)toupper((unsigned char)*c);
        }
        completion.names[completion.n++] = name;
    }
}

/* COMMAND replies with an array of arrays, each beginning with a name. Without it there is no completion. */
static void completion_load(struct cli *cli)
{
    static const char *const words[] = {"COMMAND"};
    const char *data;
    size_t len;
    struct reply_cursor cursor;
    struct reply_item item;
    if (cli->connection == NULL || !connection_send(cli->connection, 1, words, NULL) ||
        !connection_read(cli->connection, &data, &len)) {
        return;
    }
    reply_begin(&cursor, data, len);
    if (!reply_next(&cursor, &item) || !reply_is_aggregate(&item)) {
        return;
    }
    for (int64_t left = item.integer; left > 0; left--) {
        struct reply_item name;
        if (!reply_next(&cursor, &item) || !reply_is_aggregate(&item) || item.integer < 1 ||
            !reply_next(&cursor, &name) || name.text == NULL) {
            return;
        }
        completion_add(&name);
        item.integer--;
        if (!reply_pass(&cursor, &item)) {
            return;
        }
    }
}

static char *completion_next(const char *text, int state)
{
    static size_t next;
    if (state == 0) {
        next = 0;
    }
    while (next < completion.n) {
        const char *name = completion.names[next++];
        if (strncasecmp(name, text, strlen(text)) == 0) {
            return strdup(name);
        }
    }
    return NULL;
}

static char **completion_attempt(const char *text, int start, int end)
{
    (void)end;
    rl_attempted_completion_over = 1; /* never file names */
    return start == 0 ? rl_completion_matches(text, completion_next) : NULL;
}

static void completion_free(void)
{
    for (size_t i = 0; i < completion.n; i++) {
        free(completion.names[i]);
    }
    completion.n = 0;
}

/* --- modes ---------------------------------------------------------------------------------------------------------
 */

static const char *history_path(char path[PATH_BYTES_MAX])
{
    const char *named = getenv("LOCKSTEP_HISTORY");
    const char *home = getenv("HOME");
    if (named != NULL) {
        return named[0] == '\0' ? NULL : named;
    }
    if (home == NULL || snprintf(path, PATH_BYTES_MAX, "%s/.lockstep_history", home) >= PATH_BYTES_MAX) {
        return NULL;
    }
    return path;
}

static bool line_is_secret(const char *line)
{
    return strcasestr(line, "auth") != NULL || strncasecmp(line, "hello", 5) == 0;
}

static void prompt_format(const struct cli *cli, char *prompt, size_t size)
{
    if (cli->connection == NULL) {
        snprintf(prompt, size, "not connected> ");
    } else {
        snprintf(prompt, size, "%s:%u%s> ", cli->address.host, cli->address.port, cli->transaction ? "(TX)" : "");
    }
}

static int cli_interactive(struct cli *cli)
{
    char path[PATH_BYTES_MAX];
    const char *file = history_path(path);
    rl_readline_name = "lockstep";
    rl_attempted_completion_function = completion_attempt;
    using_history();
    stifle_history(HISTORY_ENTRIES_MAX);
    if (file != NULL) {
        read_history(file); /* the first time there is none */
    }
    if (cli_connect(cli)) {
        completion_load(cli);
    }
    for (;;) {
        char prompt[ADDRESS_HOST_MAX + 32];
        prompt_format(cli, prompt, sizeof(prompt));
        char *line = readline(prompt);
        if (line == NULL) {
            putchar('\n');
            break;
        }
        const char *text = line + strspn(line, " \t");
        bool end = strcasecmp(text, "exit") == 0 || strcasecmp(text, "quit") == 0;
        if (text[0] != '\0' && !line_is_secret(text)) {
            add_history(text);
        }
        if (strcasecmp(text, "help") == 0 || strcmp(text, "?") == 0) {
            puts("Type a command and its arguments; Tab completes command names, the arrow keys recall earlier lines.\n"
                 "\"...\" takes escapes as in C. `exit` or Ctrl-D ends. lockstep cli --help says more.");
        } else if (!end) {
            cli_line(cli, text);
        }
        free(line);
        if (end) {
            break;
        }
    }
    if (file != NULL) {
        write_history(file);
    }
    completion_free();
    return EXIT_OK;
}

static int cli_stdin(struct cli *cli)
{
    char *line = NULL;
    size_t capacity = 0;
    bool connected = true;
    while (connected && getline(&line, &capacity, stdin) >= 0) {
        connected = cli_line(cli, line);
    }
    free(line);
    return !connected ? EXIT_FAILED : cli->error_seen ? EXIT_PARTLY : EXIT_OK;
}

static int cli_one(struct cli *cli, int argc, char **argv)
{
    size_t *lens = calloc((size_t)argc, sizeof(*lens));
    if (lens == NULL) {
        return EXIT_FAILED;
    }
    for (int i = 0; i < argc; i++) {
        lens[i] = strlen(argv[i]);
    }
    bool ok = cli_execute(cli, (size_t)argc, (const char *const *)argv, lens);
    free(lens);
    return !ok ? EXIT_FAILED : cli->error_seen ? EXIT_PARTLY : EXIT_OK;
}

int command_cli(int argc, char **argv)
{
    struct cli cli = {.address = {.host = "127.0.0.1", .port = ADDRESS_PORT_DEFAULT}, .proto = 3};
    bool no_raw = false;
    const struct option_rule rules[] = {{.name = "addr", .address = &cli.address},
                                        {.name = "resp", .u32 = &cli.proto, .min = 2, .max = 3},
                                        {.name = "raw", .flag = &cli.raw},
                                        {.name = "no-raw", .flag = &no_raw},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "COMMAND", .operands_max = INT_MAX, .in_order = true};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    cli.raw = cli.raw || (!no_raw && isatty(STDOUT_FILENO) != 1);
    signal(SIGPIPE, SIG_IGN);
    int result;
    if (optind < argc) {
        result = cli_one(&cli, argc - optind, argv + optind);
    } else if (isatty(STDIN_FILENO) != 1) {
        result = cli_stdin(&cli);
    } else {
        result = cli_interactive(&cli);
    }
    connection_close(cli.connection);
    return result;
}
