/* The server's configuration: defaults, file, flags, in that order of precedence (flags win). Owns its strings. Knows
 * nothing of the node that uses it. Options are described by one table (config.c), from which the file parser, the
 * flags,
 * `--help` and CONFIG GET|SET all work. */
#ifndef LOCKSTEP_CONFIG_H
#define LOCKSTEP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/lockstepd/read_mode.h"
#include "consensus/replica.h"

struct log;

struct config_member {
    uint64_t id;
    char host[128];
    unsigned port;      /* clients */
    unsigned peer_port; /* other nodes */
};

struct config {
    uint64_t id;                                       /* node id, 1.. */
    char *dir;                                         /* data directory */
    char *bind;                                        /* address for clients and peers, default 127.0.0.1 */
    unsigned port;                                     /* clients, default 7379 */
    unsigned peer_port;                                /* default port + 10000 */
    char *cluster_name;                                /* mixed into the cluster uuid, default "lockstep" */
    struct config_member members[REPLICA_SERVERS_MAX]; /* the initial cluster, from `member ID HOST:PORT[:PEERPORT]` */
    unsigned n_members;                                /* 0: a single node of its own */
    char *join;                                        /* HOST:PORT of a member to join; NULL: none */
    bool joined;                                       /* set by join.c: joined_cluster holds */
    unsigned char joined_cluster[16];
    uint32_t election_timeout_ms;      /* default 300 */
    uint32_t heartbeat_ms;             /* 0: a tenth of the election timeout */
    uint32_t clock_rate_error_ppm;     /* bound on every node's clock rate error, default 10000 (1 %) */
    bool leases;                       /* answer reads from memory under leases */
    bool rebuild;                      /* a node in quarantine makes its content anew */
    char *read_grants;                 /* "all": every replica reads locally; "leader": only the leader */
    bool read_grants_all;              /* the same, parsed by config_finish */
    char *read_mode;                   /* READMODE of new connections */
    struct read_mode read_mode_parsed; /* the same, parsed by config_finish */
    uint64_t maxmemory;                /* bytes of logical store size, 0: none */
    uint64_t wal_segment_bytes, space_reserve_bytes, inflight_bytes, log_tail_bytes;
    uint64_t snapshot_log_bytes, snapshot_rate, snapshot_transfer_rate, log_keep_bytes;
    uint32_t snapshot_age_s;
    uint32_t batch_bytes_max; /* target size of one log entry, default 256 KiB */
    uint32_t entry_bytes_max; /* one command at most this, default 64 MiB */
    bool redirect;            /* answer -MOVED instead of forwarding */
    uint32_t maxclients;
    uint64_t client_output_bytes, client_query_bytes, proto_max_bulk_len;
    uint32_t timeout_s; /* idle clients, 0: never */
    uint32_t tcp_keepalive_s;
    bool enable_debug_command;
    int loglevel;    /* 0 error .. 3 debug, default 2 */
    char *logfile;   /* NULL: stderr */
    char *pidfile;   /* NULL: none */
    struct log *log; /* borrowed, set by main: where node_log writes; NULL: stderr */
    uint64_t given;  /* private: bit i is set if option i was given by file or flag */
};

#define CONFIG_ERROR_MAX 1024u /* bytes of an error text, with the NUL */

enum config_type {
    CONFIG_NUMBER32, /* uint32_t or unsigned */
    CONFIG_NUMBER64,
    CONFIG_SIZE32, /* bytes, with an optional unit: 1kb, 1mb, 1gb (1024s), 1k, 1m, 1g (1000s) */
    CONFIG_SIZE64,
    CONFIG_BOOL, /* yes or no */
    CONFIG_TEXT, /* char *, empty is NULL */
    CONFIG_LEVEL,
    CONFIG_MEMBER /* repeated */
};

struct config_option {
    const char *name;
    enum config_type type;
    size_t offset;        /* of the field in struct config */
    uint64_t min, max;    /* of numbers and sizes; bytes of a text */
    const char *fallback; /* the default, as text; "" for none */
    bool changeable;      /* by CONFIG SET while running */
    const char *help;
};

/* Option `i`, NULL after the last. */
const struct config_option *config_option_at(unsigned i);
/* Exact, lower case; NULL if unknown. */
const struct config_option *config_option_find(const char *name);

/* All defaults; false if memory is exhausted. Free with config_fini. */
bool config_init(struct config *config);
void config_fini(struct config *config);
/* Parse and store one value. On failure nothing changes and `error` (CONFIG_ERROR_MAX bytes) says what is allowed. */
bool config_set(struct config *config, const struct config_option *option, const char *value, char *error);
/* The value as text, as it would stand in a file. Returns its length, at most capacity - 1. */
size_t config_get(const struct config *config, const struct config_option *option, char *text, size_t capacity);

/* Read a file of lines `name value`. Errors carry file name and line number. */
bool config_read_file(struct config *config, const char *path, char *error);
/* The same from memory; `name` stands for the file in errors. */
bool config_read_text(struct config *config, const char *name, const char *text, size_t len, char *error);
/* Read flags `--name value` or `--name=value` from argv[first] on. */
bool config_read_flags(struct config *config, int argc, char **argv, int first, char *error);
/* Fill in what follows from other options, and check that all of them fit together. Call once, last. */
bool config_finish(struct config *config, char *error);

/* "ID HOST:PORT[:PEERPORT]"; an IPv6 host stands in brackets; PEERPORT defaults to PORT + 10000. */
bool config_parse_member(const char *text, struct config_member *member, char *error);
/* Do they share a host and a port, whichever it is? */
bool config_members_clash(const struct config_member *a, const struct config_member *b);
/* Redis's sizes and Redis's number rules: digits with an optional unit. */
bool config_parse_size(const char *text, uint64_t *size);

#endif
