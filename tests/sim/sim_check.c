#include "tests/sim/sim_check.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_env.h"

void sim_check_init(struct sim_check *check, struct sim_world *world)
{
    memset(check, 0, sizeof *check);
    check->world = world;
    check->clock_ahead_max_ms = 1000;
}

void sim_check_fini(struct sim_check *check)
{
    free(check->committed);
    free(check->leaders);
    memset(check, 0, sizeof *check);
}

static struct sim_applied *committed_at(struct sim_check *check, uint64_t index)
{
    if (index >= check->committed_capacity) {
        uint64_t capacity = check->committed_capacity == 0 ? 1024 : check->committed_capacity;

        while (capacity <= index) {
            capacity *= 2;
        }
        check->committed = realloc(check->committed, capacity * sizeof *check->committed);
        assert(check->committed != NULL);
        memset(check->committed + check->committed_capacity, 0,
               (capacity - check->committed_capacity) * sizeof *check->committed);
        check->committed_capacity = capacity;
    }
    return &check->committed[index];
}

static void check_same(struct sim_check *check, unsigned node, const struct sim_applied *known,
                       const struct sim_applied *applied)
{
    struct sim_world *world = check->world;
    uint64_t index = applied->index;

    if (known->content != applied->content || known->term != applied->term) {
        sim_world_violation(world, "log matching",
                            "node %u applies another entry at index %" PRIu64 " (term %" PRIu64 ") than was applied "
                            "there before (term %" PRIu64 "); acknowledged up to %" PRIu64,
                            node + 1, index, applied->term, known->term, check->acknowledged);
    } else if (known->revision != applied->revision) {
        sim_world_violation(world, "equal revision",
                            "node %u has revision %" PRIu64 " at index %" PRIu64 ", others %" PRIu64, node + 1,
                            applied->revision, index, known->revision);
    } else if (known->digest != applied->digest || known->keys != applied->keys) {
        sim_world_violation(world, "equal digest",
                            "node %u has digest %016" PRIx64 " and %" PRIu64 " keys at index %" PRIu64
                            ", others %016" PRIx64 " and %" PRIu64,
                            node + 1, applied->digest, applied->keys, index, known->digest, known->keys);
    } else if (known->time_ms != applied->time_ms) {
        sim_world_violation(world, "equal time",
                            "node %u has cluster time %" PRIu64 " at index %" PRIu64 ", others %" PRIu64, node + 1,
                            applied->time_ms, index, known->time_ms);
    } else if (known->replies != 0 && applied->replies != 0 && known->replies != applied->replies) {
        sim_world_violation(world, "equal replies", "node %u gives other replies at index %" PRIu64, node + 1, index);
    }
}

void sim_check_applied(struct sim_check *check, unsigned node, const struct sim_applied *applied)
{
    struct sim_applied *known = committed_at(check, applied->index);

    assert(applied->content != 0);
    check->applies++;
    if (known->content == 0) {
        *known = *applied;
    } else {
        check_same(check, node, known, applied);
        known->replies = known->replies == 0 ? applied->replies : known->replies;
    }
    if (applied->index > check->highest_applied) {
        check->highest_applied = applied->index;
    }
}

void sim_check_installed(struct sim_check *check, unsigned node, const struct sim_applied *content)
{
    uint64_t index = content->index;

    if (index > check->highest_applied + 64) { /* barriers and configurations are not counted there */
        sim_world_violation(check->world, "snapshots",
                            "node %u has one of index %" PRIu64 ", but %" PRIu64
                            " is the last that was applied anywhere",
                            node + 1, index, check->highest_applied);
        return;
    }
    while (index > 0 && committed_at(check, index)->content == 0) {
        index--; /* not a command: the content is that of the one before */
    }
    if (index > 0) {
        struct sim_applied same = *committed_at(check, index);

        same.digest = content->digest;
        same.revision = content->revision;
        same.keys = content->keys;
        same.time_ms = content->time_ms;
        check_same(check, node, committed_at(check, index), &same);
    }
}

void sim_check_leads(struct sim_check *check, unsigned node, uint64_t term)
{
    if (term >= check->leaders_n) {
        uint64_t n = check->leaders_n == 0 ? 256 : check->leaders_n;

        while (n <= term) {
            n *= 2;
        }
        check->leaders = realloc(check->leaders, n * sizeof *check->leaders);
        assert(check->leaders != NULL);
        memset(check->leaders + check->leaders_n, 0, (n - check->leaders_n) * sizeof *check->leaders);
        check->leaders_n = n;
    }
    if (check->leaders[term] == 0) {
        check->leaders[term] = node + 1;
        check->elections++;
    } else if (check->leaders[term] != node + 1) {
        sim_world_violation(check->world, "one leader per term", "nodes %u and %u both lead term %" PRIu64,
                            check->leaders[term], node + 1, term);
    }
}

void sim_check_stamp(struct sim_check *check, unsigned node, uint64_t time_ms, bool fresh)
{
    const uint64_t true_ms = SIM_EPOCH_MS + check->world->now_us / 1000;
    const int64_t ahead = (int64_t)(time_ms - true_ms);

    if (node + 1 == check->wild_clock) {
        check->bound_us = time_ms * 1000 > check->bound_us ? time_ms * 1000 : check->bound_us;
        return;
    }

    /* Rates differ by up to 1 %, and the clock may slew by as much. */
    if (ahead > check->clock_ahead_max_ms + (int64_t)(check->world->now_us / 1000 / 50)) {
        sim_world_violation(check->world, "cluster time", "node %u stamps a time %" PRId64 " ms ahead", node + 1,
                            ahead);
    }
    /* Any stamp so far may have been carried on, on a fast clock and slewing. */
    check->bound_us += (check->world->now_us - check->bound_at_us) * 26 / 25;
    check->bound_at_us = check->world->now_us;
    if (fresh) {
        check->bound_us = time_ms * 1000 > check->bound_us ? time_ms * 1000 : check->bound_us;
    } else if (time_ms * 1000 > check->bound_us + 5000) {
        sim_world_violation(check->world, "cluster time", "node %u steps it by %" PRIu64 " ms", node + 1,
                            time_ms - check->bound_us / 1000);
    }
}

void sim_check_reply(struct sim_check *check, unsigned node, uint64_t index, uint64_t floor, bool read,
                     const char *what)
{
    if (read ? index < floor : index <= floor) {
        sim_world_violation(check->world, read ? "stale read" : "real-time order",
                            "node %u answered from index %" PRIu64 ", but %" PRIu64
                            " was acknowledged before the request was made: %s",
                            node + 1, index, floor, what);
    }
}

void sim_check_shown(struct sim_check *check, uint64_t index)
{
    if (index > check->acknowledged) {
        check->acknowledged = index;
    }
}

void sim_check_log_kept(struct sim_check *check, unsigned node, const struct replica_info *info, uint64_t keep_bytes)
{
    uint64_t bytes = 0;

    for (uint64_t index = info->log_start + 1; index <= info->snapshot.index; index++) {
        bytes += committed_at(check, index)->bytes;
    }
    if (bytes > keep_bytes) {
        sim_world_violation(check->world, "log is bounded",
                            "node %u keeps %" PRIu64 " bytes of log from %" PRIu64 " to its snapshot of %" PRIu64
                            ", where %" PRIu64 " are allowed",
                            node + 1, bytes, info->log_start, info->snapshot.index, keep_bytes);
    }
}

void sim_check_progress(struct sim_check *check, unsigned node, const struct replica_info *info,
                        struct sim_progress *before)
{
    if (info->commit < before->commit) {
        sim_world_violation(check->world, "commit never regresses", "node %u went from %" PRIu64 " to %" PRIu64,
                            node + 1, before->commit, info->commit);
    }
    if (info->applied < before->applied || info->applied > info->commit) {
        sim_world_violation(check->world, "applied up to commit",
                            "node %u: applied %" PRIu64 ", before %" PRIu64 ", commit %" PRIu64, node + 1,
                            info->applied, before->applied, info->commit);
    }
    if (info->term < before->term) {
        sim_world_violation(check->world, "term never regresses", "node %u went from term %" PRIu64 " to %" PRIu64,
                            node + 1, before->term, info->term);
    }
    if (info->role == REPLICA_LEADER) {
        sim_check_leads(check, node, info->term);
    }
    if (info->digest_mismatches > 0 && !check->differences_expected) {
        sim_world_violation(check->world, "equal digest", "node %u reports %" PRIu64 " digest mismatches", node + 1,
                            info->digest_mismatches);
    }
    before->term = info->term;
    before->commit = info->commit;
    before->applied = info->applied;
}
