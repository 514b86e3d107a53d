/* Walks over the names of keys: KEYS at once, SCAN in steps. */
#include <stdio.h>
#include <stdlib.h>

#include "store/cmd_generic.h"
#include "store/family.h"
#include "store/glob.h"
#include "store/number.h"

/* Redis walks at most ten buckets for each key asked for. */
#define SCAN_BUCKETS_PER_KEY 10
#define SCAN_COUNT_DEFAULT 10

/* What is looked for, and what has been found so far: keys of the current content, borrowed. */
struct walk {
    const struct store *store;
    struct iovec pattern;
    bool all;          /* no pattern */
    struct iovec type; /* iov_base NULL: any */
    size_t visited;
    const struct key **found;
    size_t n_found, capacity;
    bool failed; /* out of memory: some are missing */
};

static void walk_add(struct walk *walk, const struct key *key)
{
    if (walk->n_found == walk->capacity) {
        size_t capacity = walk->capacity == 0 ? 64 : walk->capacity * 2;
        const struct key **grown = realloc(walk->found, capacity * sizeof *grown);
        if (grown == NULL) {
            walk->failed = true;
            return;
        }
        walk->found = grown;
        walk->capacity = capacity;
    }
    walk->found[walk->n_found++] = key;
}

static void walk_each(void *ctx, const struct key *key)
{
    struct walk *walk = ctx;
    if (walk->failed || key_deadline_ms(key) <= store_time_ms(walk->store)) {
        return;
    }
    walk->visited++;
    if (!walk->all && !glob_match(walk->pattern, key_name(key))) {
        return;
    }
    if (walk->type.iov_base != NULL && !arg_is(walk->type, type_name(key_type(key)))) {
        return;
    }
    walk_add(walk, key);
}

/* Gives the names found. */
static void walk_reply(struct walk *walk, struct store_reply *reply)
{
    reply_array(reply, walk->n_found);
    for (size_t i = 0; i < walk->n_found; i++) {
        struct iovec name = key_name(walk->found[i]);
        reply_bulk(reply, name.iov_base, name.iov_len);
    }
}

/* Everything matches `*`, even the empty name, which other patterns of stars don't match. */
static bool pattern_is_star(struct iovec pattern)
{
    return pattern.iov_len == 1 && ((const char *)pattern.iov_base)[0] == '*';
}

static void reply_no_memory(struct store_reply *reply)
{
    reply_error(reply, "OOM not enough memory to list that many keys");
}

void cmd_keys(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    struct walk walk = {.store = store, .pattern = argv[1], .all = pattern_is_star(argv[1])};
    uint64_t cursor = 0;
    do {
        cursor = keyspace_scan(store, cursor, walk_each, &walk);
    } while (cursor != 0);
    if (walk.failed) {
        reply_no_memory(reply);
    } else {
        walk_reply(&walk, reply);
    }
    free(walk.found);
}

/* Redis's rules are strtoul's: a sign, nothing at all (0), and wrapping of negative numbers are fine; a leading space
 * or more than 64 bits is not. */
static bool parse_cursor(struct iovec arg, uint64_t *cursor)
{
    const unsigned char *text = arg.iov_base;
    size_t at = 0, len = arg.iov_len;
    bool negative = len > 0 && text[0] == '-';
    if (len > 0 && (text[0] == '-' || text[0] == '+')) {
        at++;
        if (at == len) {
            return false;
        }
    }
    uint64_t value = 0;
    for (; at < len; at++) {
        if (text[at] < '0' || text[at] > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[at] - '0'), &value)) {
            return false;
        }
    }
    *cursor = negative ? 0 - value : value;
    return true;
}

static bool parse_scan(const struct iovec *argv, unsigned argc, struct walk *walk, int64_t *count,
                       struct store_reply *reply)
{
    for (unsigned i = 2; i < argc; i += 2) {
        if (i + 1 == argc) {
            reply_syntax_error(reply);
            return false;
        }
        struct iovec value = argv[i + 1];
        if (arg_is(argv[i], "COUNT")) {
            if (!arg_integer(value, count)) {
                reply_not_integer(reply);
                return false;
            }
            if (*count < 1) {
                reply_syntax_error(reply);
                return false;
            }
        } else if (arg_is(argv[i], "MATCH")) {
            walk->pattern = value;
            walk->all = pattern_is_star(value);
        } else if (arg_is(argv[i], "TYPE")) {
            walk->type =
                (struct iovec){.iov_base = value.iov_base != NULL ? value.iov_base : "", .iov_len = value.iov_len};
        } else {
            reply_syntax_error(reply);
            return false;
        }
    }
    return true;
}

void cmd_scan(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    struct walk walk = {.store = store, .all = true};
    uint64_t cursor = 0;
    int64_t count = SCAN_COUNT_DEFAULT;
    if (!parse_cursor(argv[1], &cursor)) {
        reply_error(reply, "ERR invalid cursor");
        return;
    }
    if (!parse_scan(argv, argc, &walk, &count, reply)) {
        return;
    }
    uint64_t buckets = (uint64_t)count;
    if (__builtin_mul_overflow(buckets, SCAN_BUCKETS_PER_KEY, &buckets)) {
        buckets = UINT64_MAX;
    }
    do {
        cursor = keyspace_scan(store, cursor, walk_each, &walk);
        buckets--;
    } while (cursor != 0 && buckets > 0 && walk.visited < (uint64_t)count);
    if (walk.failed) {
        reply_no_memory(reply);
    } else {
        char text[NUMBER_INTEGER_BYTES_MAX];
        int len = snprintf(text, sizeof text, "%llu", (unsigned long long)cursor);
        reply_array(reply, 2);
        reply_bulk(reply, text, (size_t)len);
        walk_reply(&walk, reply);
    }
    free(walk.found);
}
