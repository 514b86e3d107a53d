/* A replica that does what `fake` says: what the executor is tested on. */
#ifndef LOCKSTEP_EXECUTOR_REPLICA_H
#define LOCKSTEP_EXECUTOR_REPLICA_H

#include <check.h>

#include "consensus/replica.h"

#define PROPOSALS_MAX 16u
#define TIMEOUT_MS 300u

static struct {
    uint64_t leader, term, applied, received, fresh_us;
    bool local;   /* reads are local */
    bool refused; /* reads are, all of them */
    bool removed; /* this node was */
    enum replica_status propose;
    struct {
        void *data;
        size_t len;
        struct proposal *proposal;
    } log[PROPOSALS_MAX];
    unsigned first, n; /* in flight: [first, n) */
    struct replica_read *read;
} fake;

bool replica_is_removed(const struct replica *replica)
{
    (void)replica;
    return fake.removed;
}
bool replica_reads_refused(struct replica *replica)
{
    (void)replica;
    return fake.refused;
}
uint64_t replica_leader(const struct replica *replica)
{
    (void)replica;
    return fake.leader;
}
uint64_t replica_term(const struct replica *replica)
{
    (void)replica;
    return fake.term;
}
bool replica_is_leader(const struct replica *replica)
{
    (void)replica;
    return fake.leader == 1;
}
uint64_t replica_applied(const struct replica *replica)
{
    (void)replica;
    return fake.applied;
}
uint64_t replica_cluster_time(struct replica *replica)
{
    (void)replica;
    return 1000000;
}
enum replica_status replica_propose(struct replica *replica, void *data, size_t len, struct proposal *proposal)
{
    (void)replica;
    if (fake.propose == REPLICA_OK) {
        ck_assert_uint_lt(fake.n, PROPOSALS_MAX);
        fake.log[fake.n].data = data;
        fake.log[fake.n].len = len;
        fake.log[fake.n++].proposal = proposal;
    }
    return fake.propose;
}
enum replica_status replica_read_start(struct replica *replica, struct replica_read *read)
{
    (void)replica;
    if (fake.leader != 1) {
        return REPLICA_NOT_LEADER;
    }
    if (fake.refused) {
        return REPLICA_DISPUTED;
    }
    ck_assert_ptr_null(fake.read);
    fake.read = read;
    return REPLICA_OK;
}
bool replica_read_local(struct replica *replica, uint64_t *received)
{
    (void)replica;
    *received = fake.received;
    return fake.local;
}
void replica_pull(struct replica *replica, uint64_t index)
{
    (void)replica;
    (void)index;
}
uint64_t replica_fresh_us(struct replica *replica)
{
    (void)replica;
    return fake.fresh_us;
}

#endif
