/* Reading the command line: options by a table, and their values: numbers with bounds, addresses. Errors go to stderr
 * and name the option. */
#ifndef LOCKSTEP_OPTIONS_H
#define LOCKSTEP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_HOST_MAX 256
#define ADDRESS_PORT_DEFAULT 7379

struct address {
    char host[ADDRESS_HOST_MAX];
    unsigned port;
};

/* A whole number from min to max; a suffix k, m or g multiplies by 10^3, 10^6, 10^9. */
bool option_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value);
bool option_u32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *value);
bool option_double(const char *option, const char *text, double min, double max, double *value);

/* "host:port", "host", ":port", "port" or "[v6]:port"; what is missing is 127.0.0.1 and ADDRESS_PORT_DEFAULT. */
bool option_address(const char *option, const char *text, struct address *address);
/* Several, separated by commas (which are overwritten); they are added to *n, up to `max`. */
bool option_address_list(const char *option, char *list, struct address *addresses, unsigned max, unsigned *n);

#define SEEDS_MAX 16u

/* Nodes by which a cluster is found. */
struct seeds {
    struct address at[SEEDS_MAX];
    unsigned n;
};

/* One option. Exactly one of the pointers is set, and says what it is. */
struct option_rule {
    const char *name; /* without the dashes */
    char letter;      /* its short form, 0: none */
    bool *flag;       /* no value: set to true */
    char **text;      /* as it is; points into argv */
    uint32_t *u32;    /* from `min` to `max` */
    uint64_t *u64;    /* the same */
    uint64_t min, max;
    double *real; /* from `low` to `high` */
    double low, high;
    struct address *address;             /* one */
    struct seeds *seeds;                 /* a list; the ports of `lockstep dev` unless given */
    bool (*take)(void *ctx, char *text); /* anything else: false after a message on stderr */
    void *ctx;
};

struct command_line {
    const char *usage;               /* for --help and -h, which every command has */
    const struct option_rule *rules; /* the last one has no name */
    const char *operands;            /* what they are called; NULL: there are none */
    int operands_min, operands_max;
    bool in_order; /* the first operand ends the options */
};

#define OPTIONS_OK (-1)
/* Read all options; the operands then begin at argv[optind]. OPTIONS_OK, or the exit code: help was asked for, or a
 * message was printed. */
int options_read(const struct command_line *line, int argc, char **argv);

#endif
