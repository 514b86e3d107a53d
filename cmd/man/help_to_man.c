/* Makes a manual page out of what a program prints for --help, so that the two can't differ. A program with a list
 * `Commands:` gets a section for each of them, from `PROGRAM help COMMAND`. Runs when Lockstep is built; no part of it.
 *
 * What it relies on in help texts: `Usage: ` in front, continued by seven blanks; then paragraphs; a line with two
 * blanks in front begins an item, two further blanks end its name, deeper lines go on with its text. */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_MAX 65536u
#define COMMANDS_MAX 64u
#define WORD_MAX 32u

static const char usage_word[] = "Usage: ";
static const char usage_blanks[] = "       ";

static _Noreturn void fail(const char *what, const char *which)
{
    fprintf(stderr, "help_to_man: %s %s: %s\n", what, which, strerror(errno));
    exit(1);
}

/* --- Asking the program ------------------------------------------------------------------------------------------- */

/* Its output, with a NUL behind it, in `text`. */
static void ask(const char *program, const char *first, const char *second, char text[TEXT_MAX])
{
    int ends[2];
    int status = 0;
    size_t len = 0;
    ssize_t n = 0;

    (void)fflush(stdout); /* or the child flushes it too */
    if (pipe(ends) != 0) {
        fail("pipe for", program);
    }
    const pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execl(program, program, first, second, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    while (pid > 0 && len < TEXT_MAX - 1 && (n = read(ends[0], text + len, TEXT_MAX - 1 - len)) > 0) {
        len += (size_t)n;
    }
    (void)close(ends[0]);
    text[len] = '\0';
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 || strncmp(text, usage_word, 7) != 0) {
        fail("no help from", program);
    }
}

/* --- Writing roff ------------------------------------------------------------------------------------------------- */

static void text_put(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        switch (text[i]) {
        case '\\':
            fputs("\\e", stdout);
            break;
        case '-':
            fputs("\\-", stdout);
            break;
        case '\'':
            fputs("\\(aq", stdout);
            break;
        case '"':
            fputs("\\(dq", stdout);
            break;
        case '`':
            fputs("\\(ga", stdout);
            break;
        case '^':
            fputs("\\(ha", stdout);
            break;
        case '~':
            fputs("\\(ti", stdout);
            break;
        case '.':
            fputs(i == 0 ? "\\&." : ".", stdout); /* no request */
            break;
        default:
            putchar(text[i]);
        }
    }
}

/* `.MACRO "text"`, or the text in bold on a line of its own. */
static void bold_put(const char *macro, const char *text, size_t len)
{
    printf("%s", macro);
    text_put(text, len);
    puts(macro[0] == '.' ? "\"" : "\\fR");
}

static void synopsis_put(const char *line, size_t len)
{
    puts(".br");
    bold_put("\\fB", line + sizeof usage_word - 1, len - (sizeof usage_word - 1));
}

/* One item: its name up to two blanks, then text. */
static void item_put(const char *line, size_t len)
{
    size_t name = 2;
    size_t text;

    while (name < len && !(line[name] == ' ' && name + 1 < len && line[name + 1] == ' ')) {
        name++;
    }
    for (text = name; text < len && line[text] == ' '; text++) {
    }
    puts(".TP");
    bold_put("\\fB", line + 2, name - 2);
    if (text < len) {
        text_put(line + text, len - text);
        putchar('\n');
    }
}

/* Everything but the synopsis. */
static void body_put(const char *help)
{
    bool in_usage = true;
    bool gap = true;
    bool in_item = false;

    for (size_t len; *help != '\0'; help += len + (help[len] == '\n')) {
        len = strcspn(help, "\n");
        const size_t blanks = strspn(help, " ");
        in_usage = in_usage && (strncmp(help, usage_word, 7) == 0 || strncmp(help, usage_blanks, 7) == 0);
        if (in_usage) {
            continue;
        }
        if (len == 0) {
            gap = true;
        } else if (blanks == 2) {
            item_put(help, len);
            gap = false;
            in_item = true;
        } else if (blanks > 2) {
            text_put(help + blanks, len - blanks);
            putchar('\n');
        } else {
            const bool codes = strncmp(help, "Exit codes: ", 12) == 0;
            if (gap || in_item || codes) {
                puts(".PP");
            }
            text_put(help, len);
            putchar('\n');
            gap = false;
            in_item = false;
        }
    }
}

static void synopses_put(const char *help)
{
    for (size_t len; strncmp(help, usage_word, 7) == 0 || strncmp(help, usage_blanks, 7) == 0;
         help += len + (help[len] == '\n')) {
        len = strcspn(help, "\n");
        synopsis_put(help, len);
    }
}

/* "name \- what it does", from the first sentence behind the synopsis. */
static void name_put(const char *name, const char *help)
{
    while (strncmp(help, usage_word, 7) == 0 || strncmp(help, usage_blanks, 7) == 0 || *help == '\n') {
        help += strcspn(help, "\n") + 1;
    }
    puts(".SH NAME");
    text_put(name, strlen(name));
    printf(" \\- %c", tolower((unsigned char)help[0]));
    text_put(help + 1, strcspn(help, ".:\n") - 1);
    putchar('\n');
}

/* The names under `Commands:` but help; returns how many. */
static unsigned commands_find(const char *help, char names[COMMANDS_MAX][WORD_MAX])
{
    const char *line = strstr(help, "\nCommands:\n");
    unsigned n = 0;

    for (line = line != NULL ? strchr(line + 1, '\n') + 1 : ""; strncmp(line, "  ", 2) == 0 && n < COMMANDS_MAX;
         line += strcspn(line, "\n") + 1) {
        const int len = (int)strcspn(line + 2, " ");
        if (strncmp(line + 2, "help ", 5) != 0) {
            snprintf(names[n++], WORD_MAX, "%.*s", len, line + 2);
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    static char help[TEXT_MAX], of_command[TEXT_MAX], commands[COMMANDS_MAX][WORD_MAX];
    if (argc != 6) {
        fprintf(stderr, "usage: help_to_man PROGRAM NAME SECTION VERSION SEE-ALSO >PAGE\n");
        return 2;
    }
    ask(argv[1], "--help", NULL, help);
    const unsigned n = commands_find(help, commands);
    printf(".\\\" made by help_to_man from what the program prints for \\-\\-help\n");
    printf(".TH %s %s \"\" \"Lockstep %s\" \"Lockstep\"\n", argv[2], argv[3], argv[4]);
    name_put(argv[2], help);
    puts(".SH SYNOPSIS");
    synopses_put(help);
    puts(".SH DESCRIPTION");
    body_put(help);
    for (unsigned i = 0; i < n; i++) {
        puts(i == 0 ? ".SH COMMANDS" : ".\\\"");
        ask(argv[1], "help", commands[i], of_command);
        bold_put(".SS \"", commands[i], strlen(commands[i]));
        synopses_put(of_command);
        puts(".PP");
        body_put(of_command);
    }
    puts(".SH SEE ALSO");
    puts(argv[5]);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        fail("can't write the page of", argv[2]);
    }
    return 0;
}
