/* One simulated node: a real replica and a real store on a simulated env, glued together by a small executor that does
 * what the server's does: batches commands into entries, proposes, applies, confirms reads. Owns all of a node's
 * memory; the disk and the clock outlive a crash. */
#ifndef LOCKSTEP_SIM_NODE_H
#define LOCKSTEP_SIM_NODE_H

#include "cmd/lockstepd/fsm_snapshot.h"
#include "consensus/replica.h"
#include "store/store.h"
#include "tests/sim/sim_check.h"
#include "tests/sim/sim_env.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_reply.h"

#define SIM_ARGS_MAX 8u
#define SIM_TOUCH_SLOTS 1024u

enum sim_result {
    SIM_RESULT_OK,           /* `reply` and `index` are set */
    SIM_RESULT_NOT_EXECUTED, /* for certain; `leader` says whom to ask */
    SIM_RESULT_UNKNOWN
};

/* One command, read or transaction of a client, which keeps it until `done`. */
struct sim_request {
    /* public */
    void *data;
    bool read;
    unsigned argc;
    struct iovec argv[SIM_ARGS_MAX]; /* the command; of a transaction: all commands one after the other */
    unsigned n_queued;               /* commands of a transaction; 0: a single command */
    unsigned queued_argc[2];
    unsigned n_watches;
    struct store_watch watch;
    /* How many revisions it must have taken, given its reply; NULL: not checked. */
    uint64_t (*revisions)(const struct sim_request *request);
    void (*done)(struct sim_request *request, enum sim_result result);
    /* public, set before done */
    struct sim_reply reply;
    uint64_t index;    /* a write: where it was applied; a read: it sees all that is acknowledged up to here ... */
    uint64_t shown;    /* ... and shows nothing above this */
    uint64_t revision; /* of the key argv[1], as a read saw it */
    uint64_t late_us;  /* sim_clocks_excuse of a read that is stale; SIM_NEVER: it must not be */
    unsigned leader;   /* position plus one, 0: unknown */
    enum replica_status status; /* why it was not executed */
    /* private */
    struct sim_request *next;
    uint64_t wait_index, deadline_us; /* of a local read that waits */
};

enum sim_node_state {
    SIM_NODE_DOWN,
    SIM_NODE_UP,
    SIM_NODE_STOPPED /* fail-stop, or refused to start: `reason` */
};

struct sim_node_config {
    struct replica_config replica; /* fsm, changed, progress and ctx are the node's */
    uint64_t disk_bytes;
    uint32_t batch_bytes;
    bool pipeline;    /* propose each turn's batch at once, however many are in flight */
    bool local_reads; /* answer reads under leases and grants, on any node */
    uint64_t hash_seed;
};

struct sim_batch;
struct sim_read;
struct sim_inbox_item;
struct sim_clocks;

struct sim_node {
    /* public, read only */
    unsigned position;
    uint64_t id;
    enum sim_node_state state;
    struct replica *replica; /* NULL unless up */
    struct store *store;
    unsigned lives;
    char reason[256];
    uint64_t started_us;
    uint64_t refused_space;
    uint64_t local_reads, waited_reads;
    uint64_t installs; /* of snapshots, at starts too */
    struct sim_node_tally {
        uint64_t taken, fetched, resumed; /* snapshots taken; installed from another node; transfers that went on */
        uint64_t put_off, overdue;        /* snapshots that waited for another member's; begun out of turn */
    } tally;                              /* of the lives that have ended */
    /* public: may be changed */
    struct sim_disk disk;
    struct sim_clock clock;
    struct sim_env env;
    struct sim_clocks *clocks; /* asked whether a stale read is excused; NULL: none is */
    bool may_stop;             /* disk errors in this life entitle it to stop itself */
    bool may_refuse;           /* ... or a full disk, to refuse to start */
    uint64_t spoilt;           /* this life's digests are wrong by that much */
    bool wrong;                /* ... and its content is wrong too: sim_content.h */
    bool damaged;              /* durable data was changed: both, for good */
    uint64_t turn_us_max;      /* a loop turn ends up to this long after the first event in it */
    /* private */
    struct sim_world *world;
    struct sim_net *net;
    struct sim_check *check;
    struct sim_node_config config;
    struct sim_random random;
    struct replica_fsm fsm;
    struct fsm_snapshot fsm_snapshot;
    struct replica_fsm_snapshots fsm_snapshots;
    struct sim_task turn, resume;
    uint64_t paused_until_us;
    struct sim_inbox_item *inbox, *inbox_tail;
    struct store_batch batch;
    struct sim_request *batch_requests, *batch_requests_tail; /* of the open batch */
    struct sim_batch *batches;                                /* proposed, not finished */
    struct sim_request *reads, *reads_tail;                   /* arrived in this turn */
    struct sim_read *reads_started;
    struct sim_request *waiting; /* local reads, until what was received before them is applied */
    struct {
        uint64_t touched[SIM_TOUCH_SLOTS]; /* by key hash: newest received index that names such a key */
        uint64_t touched_all;              /* ... that names no keys */
        uint64_t time_ms;                  /* of the newest received entry */
    } pending;
    struct env_timer tick;
    struct sim_reply scratch;
    bool listens; /* replies of other nodes' commands are looked at */
    uint64_t applied_index;
    bool saw_time; /* in this life, in an entry from a peer or of its own */
    struct sim_progress progress;
    unsigned info_countdown;
    bool in_event;
    const struct sim_batch *applying;
    uint64_t applying_replies, applying_revision;
};

void sim_node_init(struct sim_node *node, unsigned position, const struct sim_node_config *config,
                   struct sim_world *world, struct sim_net *net, struct sim_check *check);
void sim_node_fini(struct sim_node *node);

/* Start the process on whatever its disk holds. */
void sim_node_start(struct sim_node *node);
/* The process dies, at once. */
void sim_node_crash(struct sim_node *node);
/* An orderly stop. */
void sim_node_stop(struct sim_node *node);
/* The process does nothing for so long, while time goes on. */
void sim_node_pause(struct sim_node *node, uint64_t duration_us);
bool sim_node_is_paused(const struct sim_node *node);
/* A request arrives. `done` is called later, never from inside. */
void sim_node_request(struct sim_node *node, struct sim_request *request);
/* A frame arrives; takes it. */
void sim_node_frame(struct sim_node *node, struct sim_frame *frame);
void sim_node_peer_state(struct sim_node *node, unsigned peer, bool connected);
/* Ask it to hand leadership to node `id`; 0: to any. */
void sim_node_transfer(struct sim_node *node, uint64_t id);
/* Ask it to change the configuration. */
enum replica_status sim_node_change(struct sim_node *node, enum replica_change_kind kind, uint64_t id,
                                    const char *address);
/* Ask it to raise the feature level. */
enum replica_status sim_node_upgrade(struct sim_node *node, uint32_t level);
bool sim_node_leads(const struct sim_node *node);
/* Of all lives so far. */
struct sim_node_tally sim_node_tally(const struct sim_node *node);

#endif
