#include "cmd/lockstep/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/command.h"

static uint64_t suffix_factor(const char *suffix)
{
    if (suffix[0] == '\0') {
        return 1;
    }
    if (suffix[1] != '\0') {
        return 0;
    }
    switch (suffix[0]) {
    case 'k':
    case 'K':
        return 1000;
    case 'm':
    case 'M':
        return 1000000;
    case 'g':
    case 'G':
        return 1000000000;
    default:
        return 0;
    }
}

bool option_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    uint64_t factor = end == text ? 0 : suffix_factor(end);
    uint64_t product = 0;
    bool bad = !isdigit((unsigned char)text[0]) || errno != 0 || factor == 0 ||
               __builtin_mul_overflow((uint64_t)number, factor, &product);
    if (bad || product < min || product > max) {
        fprintf(stderr, "lockstep: %s wants a whole number from %" PRIu64 " to %" PRIu64 ", not \"%s\"\n", option, min,
                max, text);
        return false;
    }
    *value = product;
    return true;
}

bool option_u32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
    uint64_t wide = 0;
    if (!option_u64(option, text, min, max, &wide)) {
        return false;
    }
    *value = (uint32_t)wide;
    return true;
}

bool option_double(const char *option, const char *text, double min, double max, double *value)
{
    char *end = NULL;
    errno = 0;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(number >= min && number <= max)) {
        fprintf(stderr, "lockstep: %s wants a number from %g to %g, not \"%s\"\n", option, min, max, text);
        return false;
    }
    *value = number;
    return true;
}

static bool port_parse(const char *text, unsigned *port)
{
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || number < 1 || number > 65535) {
        return false;
    }
    *port = (unsigned)number;
    return true;
}

static bool address_parse(const char *text, struct address *address)
{
    const char *host = text;
    size_t host_len = strlen(text);
    const char *port = NULL;
    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (close == NULL || (close[1] != '\0' && close[1] != ':')) {
            return false;
        }
        host = text + 1;
        host_len = (size_t)(close - host);
        port = close[1] == ':' ? close + 2 : NULL;
    } else if (strchr(text, ':') != NULL && strchr(text, ':') == strrchr(text, ':')) {
        port = strchr(text, ':') + 1;
        host_len = (size_t)(port - 1 - text);
    } else if (host_len > 0 && strspn(text, "0123456789") == host_len) {
        port = text;
        host_len = 0;
    }
    if (host_len >= sizeof(address->host)) {
        return false;
    }
    address->port = ADDRESS_PORT_DEFAULT;
    if (port != NULL && !port_parse(port, &address->port)) {
        return false;
    }
    if (host_len == 0) {
        host = "127.0.0.1";
        host_len = strlen(host);
    }
    memcpy(address->host, host, host_len);
    address->host[host_len] = '\0';
    return true;
}

bool option_address(const char *option, const char *text, struct address *address)
{
    if (text[0] == '\0' || !address_parse(text, address)) {
        fprintf(stderr, "lockstep: %s wants HOST:PORT, not \"%s\"\n", option, text);
        return false;
    }
    return true;
}

bool option_address_list(const char *option, char *list, struct address *addresses, unsigned max, unsigned *n)
{
    char *rest = NULL;
    for (char *one = strtok_r(list, ",", &rest); one != NULL; one = strtok_r(NULL, ",", &rest)) {
        if (*n == max) {
            fprintf(stderr, "lockstep: %s: more than %u addresses\n", option, max);
            return false;
        }
        if (!option_address(option, one, &addresses[*n])) {
            return false;
        }
        (*n)++;
    }
    return true;
}

/* --- The table ---------------------------------------------------------------------------------------------------- */

#define RULES_MAX 32u
#define OPTION_FIRST 256 /* above every letter */

static bool rule_take(const struct option_rule *rule, char *text)
{
    char option[64];

    snprintf(option, sizeof option, "--%s", rule->name);
    if (rule->flag != NULL) {
        return *rule->flag = true;
    }
    if (rule->text != NULL) {
        *rule->text = text;
        return true;
    }
    if (rule->u32 != NULL) {
        assert(rule->max <= UINT32_MAX);
        return option_u32(option, text, (uint32_t)rule->min, (uint32_t)rule->max, rule->u32);
    }
    if (rule->u64 != NULL) {
        return option_u64(option, text, rule->min, rule->max, rule->u64);
    }
    if (rule->real != NULL) {
        return option_double(option, text, rule->low, rule->high, rule->real);
    }
    if (rule->address != NULL) {
        return option_address(option, text, rule->address);
    }
    if (rule->seeds != NULL) {
        return option_address_list(option, text, rule->seeds->at, SEEDS_MAX, &rule->seeds->n);
    }
    return rule->take(rule->ctx, text);
}

/* The ports of `lockstep dev`, where none were given. */
static void seeds_complete(const struct option_rule *rules)
{
    for (const struct option_rule *rule = rules; rule->name != NULL; rule++) {
        for (unsigned port = 0; rule->seeds != NULL && rule->seeds->n == port && port < 3; port++) {
            rule->seeds->at[rule->seeds->n++] =
                (struct address){.host = "127.0.0.1", .port = ADDRESS_PORT_DEFAULT + port};
        }
    }
}

static int operands_check(const struct command_line *line, int argc, char **argv)
{
    const int n = argc - optind;

    if (n > line->operands_max) {
        fprintf(stderr, "%s: unexpected \"%s\" (%s --help)\n", argv[0], argv[optind + line->operands_max], argv[0]);
        return EXIT_USAGE;
    }
    if (n < line->operands_min) {
        fprintf(stderr, "%s: which %s? (%s --help)\n", argv[0], line->operands, argv[0]);
        return EXIT_USAGE;
    }
    return OPTIONS_OK;
}

int options_read(const struct command_line *line, int argc, char **argv)
{
    struct option options[RULES_MAX + 2] = {{"help", no_argument, NULL, 'h'}};
    char letters[3 * RULES_MAX + 3] = "";
    unsigned n = 0;
    int code;

    snprintf(letters, sizeof letters, "%sh", line->in_order ? "+" : "");
    for (; line->rules[n].name != NULL; n++) {
        const struct option_rule *rule = &line->rules[n];
        assert(n < RULES_MAX);
        options[n + 1] = (struct option){rule->name, rule->flag != NULL ? no_argument : required_argument, NULL,
                                         OPTION_FIRST + (int)n};
        if (rule->letter != 0) {
            const size_t len = strlen(letters);
            snprintf(letters + len, sizeof letters - len, "%c%s", rule->letter, rule->flag != NULL ? "" : ":");
        }
    }
    while ((code = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        unsigned i = code >= OPTION_FIRST ? (unsigned)(code - OPTION_FIRST) : 0;
        if (code == 'h') {
            fputs(line->usage, stdout);
            return EXIT_OK;
        }
        while (code < OPTION_FIRST && i < n && line->rules[i].letter != code) {
            i++;
        }
        if (i == n || !rule_take(&line->rules[i], optarg)) {
            return EXIT_USAGE;
        }
    }
    seeds_complete(line->rules);
    return operands_check(line, argc, argv);
}
