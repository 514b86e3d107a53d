/* Clients: each does one operation at a time on a node of its choice, follows hints to the leader, and records what
 * happened in the history. Owns clients and calls under way; borrows nodes, history and checks. */
#ifndef LOCKSTEP_SIM_WORKLOAD_H
#define LOCKSTEP_SIM_WORKLOAD_H

#include "tests/sim/sim_history.h"
#include "tests/sim/sim_node.h"

#define SIM_CLIENTS_MAX 16u

struct sim_call;
struct sim_workload;

struct sim_client {
    struct sim_task next;    /* the next operation begins */
    struct sim_task timeout; /* of the current one */
    struct sim_workload *workload;
    unsigned number;
    unsigned target; /* node believed to lead */
    struct sim_call *call;
    /* What the last GET saw, for a compare-and-set on it. */
    char seen_key[SIM_KEY_BYTES];
    char *seen; /* NULL: absent */
    size_t seen_len;
    uint64_t seen_revision;
};

struct sim_workload_config {
    unsigned n_clients;
    uint64_t think_us;   /* mean pause between operations, 10,000 */
    uint64_t timeout_us; /* a client gives up waiting, 1,500,000 */
    uint64_t window_us;  /* keys are replaced after this long, so that histories stay short, 1,500,000 */
    unsigned keys;       /* of each class at a time, 3 */
    uint32_t large_ppm;  /* share of values of some thousand bytes */
    uint32_t stray_ppm;  /* share of operations sent to a random node */
    uint32_t spread_ppm; /* share of reads sent to a random node */
    uint64_t ttl_max_ms;
};

struct sim_workload {
    /* public, read only */
    uint64_t ok, failed, unknown, writes_ok, reads_ok;
    uint64_t last_write_us; /* when the newest write was acknowledged */
    uint64_t last_read_us;
    bool stopped;
    /* private */
    struct sim_workload_config config;
    struct sim_world *world;
    struct sim_history *history;
    struct sim_check *check;
    struct sim_node *nodes;
    unsigned n_nodes;
    struct sim_random random;
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_call *calls;
    uint64_t ttl_keys;
    /* The final reads. */
    char (*final_keys)[SIM_KEY_BYTES];
    size_t final_n, final_at;
    bool final;
};

void sim_workload_init(struct sim_workload *workload, const struct sim_workload_config *config, struct sim_world *world,
                       struct sim_history *history, struct sim_check *check, struct sim_node *nodes, unsigned n_nodes);
/* The nodes must be down for good. */
void sim_workload_fini(struct sim_workload *workload);
void sim_workload_start(struct sim_workload *workload);
/* No operation begins any more; those under way end. */
void sim_workload_stop(struct sim_workload *workload);
bool sim_workload_is_idle(const struct sim_workload *workload);
/* After a stop: read every key of the history once, retrying until it is answered. */
void sim_workload_read_all(struct sim_workload *workload);
bool sim_workload_has_read_all(const struct sim_workload *workload);
/* One operation of the given kind on `key` by client 0, at once, to node `node`; the scenario's own probe. Client 0
 * must be idle (workload stopped). Returns the operation to look at later. */
const struct sim_op *sim_workload_probe(struct sim_workload *workload, enum sim_op_kind kind, const char *key,
                                        const char *arg, uint64_t ttl_ms, unsigned node);

#endif
