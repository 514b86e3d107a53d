/* A replica that does what `fake` says: what the executor is tested on. */
#ifndef LOCKSTEP_EXECUTOR_REPLICA_H
#define LOCKSTEP_EXECUTOR_REPLICA_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/executor.h"
#include "consensus/replica.h"

#define PROPOSALS_MAX 16u
#define READS_MAX 16u
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
    unsigned first, n;                     /* in flight: [first, n) */
    struct replica_read *reads[READS_MAX]; /* not confirmed, oldest first */
    unsigned n_reads;
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
        assert(fake.n < PROPOSALS_MAX);
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
    assert(fake.n_reads < READS_MAX);
    fake.reads[fake.n_reads++] = read;
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

/* --- What happens in the cluster --- */

/* The oldest entry in flight is committed and applied. */
__attribute__((unused)) static void fake_commit(struct executor *ex)
{
    assert(fake.first < fake.n);
    const unsigned i = fake.first++;
    fake.applied++;
    fake.received = fake.applied;
    executor_apply(ex, fake.applied, fake.log[i].data, fake.log[i].len, fake.log[i].proposal);
    free(fake.log[i].data);
}

/* The oldest read is confirmed, or not. */
__attribute__((unused)) static void fake_confirm(enum replica_status status)
{
    struct replica_read *read = fake.reads[0];
    assert(fake.n_reads > 0);
    memmove(&fake.reads[0], &fake.reads[1], --fake.n_reads * sizeof fake.reads[0]);
    read->cb(read, status);
}

/* As replica.c does it: first the outcomes that are lost, then the news. */
__attribute__((unused)) static void fake_lose_leadership(struct executor *ex, uint64_t leader, uint64_t term)
{
    fake.leader = leader;
    fake.term = term;
    while (fake.first < fake.n) {
        struct proposal *p = fake.log[fake.first].proposal;
        free(fake.log[fake.first++].data);
        p->unknown(p);
    }
    while (fake.n_reads > 0) {
        fake_confirm(REPLICA_NOT_LEADER);
    }
    executor_changed(ex);
}

#endif
