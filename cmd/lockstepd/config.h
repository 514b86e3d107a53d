/* The server's configuration: defaults, file, flags, in that order of precedence (flags win). Owns its strings. */
#ifndef LOCKSTEP_CONFIG_H
#define LOCKSTEP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "consensus/replica.h"

struct config_member {
    uint64_t id;
    char host[128];
    unsigned port;      /* clients */
    unsigned peer_port; /* other nodes */
};

struct config {
    uint64_t id;          /* node id, 1.. */
    char *dir;            /* data directory */
    char *bind;           /* address for clients and peers, default 127.0.0.1 */
    unsigned port;        /* clients, default 7379 */
    unsigned peer_port;   /* default port + 10000 */
    char *cluster_name;   /* mixed into the cluster uuid, default "lockstep" */
    struct config_member members[REPLICA_SERVERS_MAX]; /* the initial cluster, from `member ID HOST:PORT[:PEERPORT]` */
    unsigned n_members;   /* 0: a single node of its own */
    uint32_t election_timeout_ms; /* default 300 */
    uint32_t heartbeat_ms;        /* 0: a tenth of the election timeout */
    uint64_t maxmemory;           /* bytes of logical store size, 0: none */
    uint64_t wal_segment_bytes, space_reserve_bytes, inflight_bytes, log_tail_bytes;
    uint32_t batch_bytes_max;     /* target size of one log entry, default 256 KiB */
    uint32_t entry_bytes_max;     /* one command at most this, default 64 MiB */
    bool redirect;                /* answer -MOVED instead of forwarding */
    uint32_t maxclients;
    uint64_t client_output_bytes, client_query_bytes, proto_max_bulk_len;
    uint32_t timeout_s;           /* idle clients, 0: never */
    uint32_t tcp_keepalive_s;
    bool enable_debug_command;
    int loglevel;                 /* 0 error .. 3 debug, default 2 */
    char *logfile;                /* NULL: stderr */
    char *pidfile;                /* NULL: none */
};

#endif
