/* The configuration file and the flags: `name value` lines, `--name value` arguments.
 *
 * The format is Redis's: a name, white space, the rest of the line. A value may stand in double quotes (with \" \\ \n
 * \t and \xHH inside) or in single quotes. A # starts a comment where a name or, after white space, the end of a value
 * would stand. Own code rather than a library: the grammar is one line long, and users know it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/config.h"

#define FILE_BYTES_MAX ((size_t)1024 * 1024)
#define VALUE_BYTES_MAX 4096u

/* What the parser needs to know of one input. */
struct source {
    const char *name;
    unsigned line;
    uint64_t seen; /* options that this input has set, as bits */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape of a double-quoted text; `*at` stands behind the backslash and is moved on. Returns -1 if it is bad. */
static int unescape(const char **at, const char *end)
{
    if (*at == end) {
        return -1;
    }
    char c = *(*at)++;
    if (c == 'x' && end - *at >= 2) {
        int high = hex_digit((*at)[0]);
        int low = hex_digit((*at)[1]);
        *at += 2;
        return high < 0 || low < 0 ? -1 : high * 16 + low;
    }
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case '"':
    case '\\':
        return c;
    default:
        return -1;
    }
}

/* A quoted text from `*at` on, which stands at its opening quote. Returns what is wrong, or NULL. */
static const char *read_quoted(const char **at, const char *end, char *value, size_t *len)
{
    char quote = *(*at)++;
    while (*at < end && **at != quote) {
        int c = (unsigned char)*(*at)++;
        if (c == '\\' && quote == '"') {
            c = unescape(at, end);
        }
        if (c <= 0) {
            return "bad character or escape in quotes: allowed are \\\" \\\\ \\n \\t \\xHH";
        }
        if (*len == VALUE_BYTES_MAX - 1) {
            return "value too long";
        }
        value[(*len)++] = (char)c;
    }
    if (*at == end) {
        return "quote is not closed";
    }
    (*at)++;
    return NULL;
}

static void skip_blanks(const char **at, const char *end)
{
    while (*at < end && is_blank(**at)) {
        (*at)++;
    }
}

/* The value: the rest of the line up to a comment, words separated by one space each. Returns what is wrong, or NULL.
 */
static const char *read_value(const char *at, const char *end, char *value)
{
    size_t len = 0;
    const char *wrong = NULL;
    bool first = true;
    for (skip_blanks(&at, end); at < end && *at != '#'; skip_blanks(&at, end)) {
        if (!first && len < VALUE_BYTES_MAX - 1) {
            value[len++] = ' ';
        }
        first = false;
        if (*at == '"' || *at == '\'') {
            wrong = read_quoted(&at, end, value, &len);
            if (wrong == NULL && at < end && !is_blank(*at)) {
                wrong = "a closing quote must be followed by a space or the end of the line";
            }
        } else {
            for (; at < end && !is_blank(*at) && wrong == NULL; at++) {
                wrong = len == VALUE_BYTES_MAX - 1 ? "value too long" : *at == '\0' ? "NUL byte in value" : NULL;
                if (wrong == NULL) {
                    value[len++] = *at;
                }
            }
        }
        if (wrong != NULL) {
            return wrong;
        }
    }
    value[len] = '\0';
    return first ? "value is missing" : NULL;
}

static void unknown_option(const char *name, size_t len, char *error)
{
    size_t at = (size_t)snprintf(error, CONFIG_ERROR_MAX,
                                 "unknown option '%.*s', allowed are:", (int)(len < 64 ? len : 64), name);
    const struct config_option *option;
    for (unsigned i = 0; (option = config_option_at(i)) != NULL && at < CONFIG_ERROR_MAX; i++) {
        at += (size_t)snprintf(error + at, CONFIG_ERROR_MAX - at, " %s", option->name);
    }
}

static const struct config_option *find_option(const char *name, size_t len, char *error)
{
    char copy[64];
    const struct config_option *option = NULL;
    if (len < sizeof copy && memchr(name, '\0', len) == NULL) {
        memcpy(copy, name, len);
        copy[len] = '\0';
        option = config_option_find(copy);
    }
    if (option == NULL) {
        unknown_option(name, len, error);
    }
    return option;
}

static unsigned option_index(const struct config_option *option)
{
    return (unsigned)(option - config_option_at(0));
}

/* Store a value of an input in which each option but `member` may stand once. Members of this input replace those of an
 * earlier one: they are one list. */
static bool set_once(struct config *config, struct source *source, const struct config_option *option,
                     const char *value, char *error)
{
    uint64_t bit = UINT64_C(1) << option_index(option);
    bool again = (source->seen & bit) != 0;
    if (again && option->type != CONFIG_MEMBER) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "option '%s' is given twice", option->name);
        return false;
    }
    if (!again && option->type == CONFIG_MEMBER) {
        config->n_members = 0;
    }
    source->seen |= bit;
    return config_set(config, option, value, error);
}

static bool read_line(struct config *config, struct source *source, const char *at, const char *end, char *error)
{
    char value[VALUE_BYTES_MAX];
    skip_blanks(&at, end);
    if (at == end || *at == '#') {
        return true;
    }
    const char *name = at;
    while (at < end && !is_blank(*at)) {
        at++;
    }
    const struct config_option *option = find_option(name, (size_t)(at - name), error);
    if (option == NULL) {
        return false;
    }
    const char *wrong = read_value(at, end, value);
    if (wrong != NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "%s: %s", option->name, wrong);
        return false;
    }
    return set_once(config, source, option, value, error);
}

bool config_read_text(struct config *config, const char *name, const char *text, size_t len, char *error)
{
    struct source source = {.name = name, .line = 0, .seen = 0};
    const char *end = text + len;
    for (const char *at = text; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        source.line++;
        char why[CONFIG_ERROR_MAX];
        if (!read_line(config, &source, at, stop, why)) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "%.200s:%u: %.800s", name, source.line, why);
            return false;
        }
        at = newline != NULL ? newline + 1 : end;
    }
    return true;
}

bool config_read_file(struct config *config, const char *path, char *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "%.500s: %s", path, strerror(errno));
        return false;
    }
    bool ok = false;
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t len = text == NULL ? 0 : fread(text, 1, FILE_BYTES_MAX + 1, file);
    if (text == NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    } else if (ferror(file)) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "%.500s: %s", path, strerror(errno));
    } else if (len > FILE_BYTES_MAX) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "%.500s: larger than %zu bytes", path, FILE_BYTES_MAX);
    } else {
        ok = config_read_text(config, path, text, len, error);
    }
    free(text);
    (void)fclose(file);
    return ok;
}

bool config_read_flags(struct config *config, int argc, char **argv, int first, char *error)
{
    struct source source = {.name = "flags", .line = 0, .seen = 0};
    for (int i = first; i < argc; i++) {
        const char *flag = argv[i];
        if (strncmp(flag, "--", 2) != 0) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "unexpected argument '%.200s': flags start with --", flag);
            return false;
        }
        const char *equals = strchr(flag, '=');
        size_t len = equals != NULL ? (size_t)(equals - flag) - 2 : strlen(flag) - 2;
        char why[CONFIG_ERROR_MAX];
        const struct config_option *option = find_option(flag + 2, len, why);
        const char *value = NULL;
        if (option != NULL) {
            value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        }
        if (option != NULL && value == NULL) {
            (void)snprintf(why, sizeof why, "value is missing");
        }
        if (value == NULL || !set_once(config, &source, option, value, why)) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "%.100s: %.900s", flag, why);
            return false;
        }
    }
    return true;
}
