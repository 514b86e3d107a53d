#include "cmd/lockstep/words.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    int lower = tolower((unsigned char)c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The byte that the escape after a backslash stands for; moves past it. */
static char escape_take(const char **at)
{
    static const char letters[] = "nrtab";
    static const char bytes[] = "\n\r\t\a\b";
    const char *p = *at;
    if (p[0] == 'x' && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
        *at += 3;
        return (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
    }
    const char *letter = strchr(letters, p[0]);
    *at += 1;
    return letter != NULL ? bytes[letter - letters] : p[0];
}

/* Copy a quoted part, from after its opening quote to after its closing one. False: it isn't closed. */
static bool quoted_take(const char **at, char quote, char *out, size_t *len)
{
    while (**at != '\0') {
        char c = *(*at)++;
        if (c == quote) {
            return **at == '\0' || isspace((unsigned char)**at);
        }
        if (c == '\\' && quote == '"' && **at != '\0') {
            c = escape_take(at);
        } else if (c == '\\' && quote == '\'' && **at == '\'') {
            c = *(*at)++;
        }
        out[(*len)++] = c;
    }
    return false;
}

/* One word. False: unbalanced quotes. `out` has room for the rest of the line. */
static bool word_take(const char **at, char *out, size_t *len)
{
    *len = 0;
    while (**at != '\0' && !isspace((unsigned char)**at)) {
        char c = *(*at)++;
        if (c == '"' || c == '\'') {
            return quoted_take(at, c, out, len);
        }
        out[(*len)++] = c;
    }
    return true;
}

static bool words_append(struct words *words, const char *text, size_t len)
{
    if (words->n % 16 == 0) {
        size_t capacity = words->n + 16;
        char **grown = realloc(words->text, capacity * sizeof(*grown));
        words->text = grown != NULL ? grown : words->text;
        size_t *lens = realloc(words->lens, capacity * sizeof(*lens));
        words->lens = lens != NULL ? lens : words->lens;
        if (grown == NULL || lens == NULL) {
            return false;
        }
    }
    char *copy = words->n == WORDS_MAX ? NULL : malloc(len + 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    words->text[words->n] = copy;
    words->lens[words->n] = len;
    words->n++;
    return true;
}

enum words_status words_split(const char *line, struct words *words)
{
    *words = (struct words){0};
    enum words_status status = WORDS_OK;
    char *word = malloc(strlen(line) + 1);
    if (word == NULL) {
        return WORDS_TOO_MANY;
    }
    const char *at = line;
    for (;;) {
        while (isspace((unsigned char)*at)) {
            at++;
        }
        if (*at == '\0') {
            break;
        }
        size_t len = 0;
        if (!word_take(&at, word, &len)) {
            status = WORDS_UNBALANCED;
            break;
        }
        if (!words_append(words, word, len)) {
            status = WORDS_TOO_MANY;
            break;
        }
    }
    free(word);
    if (status != WORDS_OK) {
        words_free(words);
    }
    return status;
}

void words_free(struct words *words)
{
    for (size_t i = 0; i < words->n; i++) {
        free(words->text[i]);
    }
    free(words->text);
    free(words->lens);
    *words = (struct words){0};
}
