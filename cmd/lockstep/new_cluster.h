/* A member of a new cluster, made out of content: its data directory. Knows nothing of where the content comes from. */
#ifndef LOCKSTEP_NEW_CLUSTER_H
#define LOCKSTEP_NEW_CLUSTER_H

#include "cmd/lockstep/content.h"
#include "consensus/configuration.h"
#include "consensus/replica.h"

#define NEW_CLUSTER_ERROR_MAX 800

struct new_cluster {
    uint8_t uuid[16];
    uint64_t id; /* of this member */
    struct {
        uint64_t id;
        char address[REPLICA_ADDRESS_MAX + 1];
    } nodes[REPLICA_SERVERS_MAX]; /* all voters */
    unsigned n_nodes;
    struct configuration_settings settings;
};

/* "1=HOST:PORT[:PEERPORT],2=..." (overwritten). False: told on stderr. */
bool new_cluster_nodes(struct new_cluster *cluster, char *list);
/* 32 hexadecimal digits, or NULL to draw a new one. False: told on stderr. */
bool new_cluster_uuid(struct new_cluster *cluster, const char *text);
void new_cluster_uuid_format(const struct new_cluster *cluster, char text[33]);
/* Timeouts as in the configuration of the content, or the defaults. */
void new_cluster_settings(struct new_cluster *cluster, const struct content *content);
/* Is `dir` missing or empty? False: `error`. */
bool new_cluster_dir_ok(const char *dir, char error[NEW_CLUSTER_ERROR_MAX]);
/* Write the data directory; complete when this returns true. Until then it holds the file `unfinished`, with which no
 * node starts. */
bool new_cluster_write(const struct new_cluster *cluster, struct content *content, const char *dir,
                       char error[NEW_CLUSTER_ERROR_MAX]);
/* What to do next, for people; `again` is the command without --id and --to. */
void new_cluster_advice(const struct new_cluster *cluster, const char *again, const char *dir);

#endif
