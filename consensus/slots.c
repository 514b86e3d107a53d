/* Two slots, one rule.
 *
 * A write of state n+1 makes slot A durable, then slot B, then returns; nothing that depends on state n+1 (a vote, a
 * message of the new term, an entry in the WAL) leaves before the return. So at any instant, crash or not:
 *
 *     A      B      the last acknowledged state
 *     n      n      n
 *     torn   n      n    crash while A was written
 *     n+1    n      n    crash between the two, or nothing of B had reached the disk
 *     n+1    torn   n    crash while B was written
 *     n+1    n+1    n or n+1
 *
 * A slot that is intact is therefore never older than the last acknowledged state, whichever slot it is and whatever
 * the other one looks like: an acknowledged state is in both. So one bad slot beside one good slot is safe to repair
 * from the good one, and no distinction between a torn write and bytes that rotted is needed: if A=n, B=n and one of
 * them rots, the other still says n. Taking n+1 though it was never acknowledged is safe as well: a vote that was never
 * sent binds nobody but this node, and it does no harm to keep it.
 *
 * What the order of writes can't produce is fail-stop, since then the newest state may be lost and going on with an
 * older one could vote twice in a term: both slots bad; A older than B; A more than one ahead of B; equal sequence
 * numbers with different content; a term that goes backwards from B to A; another node's identity in one of them.
 * (Losing a whole durable write in *both* slots is beyond any scheme that looks at this file alone; the driver also
 * compares the log's last term with the term stored here.)
 *
 * Opening completes an unfinished write (B := A) or repairs the bad slot before it returns: otherwise state n+1 could
 * be acted upon while it is in A alone, and the loss of A would bring state n back. */
#include "consensus/slots.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "consensus/little_endian.h"

#define SLOTS_NAME "state"
#define SLOTS_NAME_NEW "state.new"
#define SLOTS_VERSION_MAX 1u

static const char slot_magic[8] = {'L', 'S', 'T', 'P', 'S', 'L', 'O', 'T'};

/* All in the first 512-byte sector of the slot's block. The check covers that sector, in every version. */
enum {
    SLOT_VERSION = 8,
    SLOT_SEQ = 16,
    SLOT_CLUSTER = 24,
    SLOT_ID = 40,
    SLOT_INCARNATION = 48,
    SLOT_STARTS = 56,
    SLOT_TERM = 64,
    SLOT_VOTE = 72,
    SLOT_CHECK = 504
};
static_assert(SLOT_CHECK + 8 == 512, "a slot is one sector");

struct slots {
    struct env *env;
    struct env_file *file;
    uint8_t *block; /* ENV_BLOCK bytes, aligned */
    uint64_t seq;
    bool failed; /* a write failed: what is on disk is unknown until the next open */
};

enum slot_condition { SLOT_GOOD, SLOT_BAD, SLOT_NEWER };

struct slot {
    enum slot_condition condition;
    uint32_t version;
    uint64_t seq;
    struct slots_state state;
};

static void slot_encode(uint8_t *block, uint64_t seq, const struct slots_state *state)
{
    memset(block, 0, ENV_BLOCK);
    memcpy(block, slot_magic, sizeof slot_magic);
    le_put64(block + SLOT_VERSION, SLOTS_VERSION_MAX);
    le_put64(block + SLOT_SEQ, seq);
    memcpy(block + SLOT_CLUSTER, state->cluster, sizeof state->cluster);
    le_put64(block + SLOT_ID, state->id);
    le_put64(block + SLOT_INCARNATION, state->incarnation);
    le_put64(block + SLOT_STARTS, state->starts);
    le_put64(block + SLOT_TERM, state->term);
    le_put64(block + SLOT_VOTE, state->vote);
    le_put64(block + SLOT_CHECK, XXH3_64bits(block, SLOT_CHECK));
}

static void slot_decode(const uint8_t *block, struct slot *slot)
{
    memset(slot, 0, sizeof *slot);
    slot->condition = SLOT_BAD;
    if (memcmp(block, slot_magic, sizeof slot_magic) != 0 ||
        le_get64(block + SLOT_CHECK) != XXH3_64bits(block, SLOT_CHECK)) {
        return;
    }
    slot->version = (uint32_t)le_get64(block + SLOT_VERSION);
    if (le_get64(block + SLOT_VERSION) > SLOTS_VERSION_MAX) {
        slot->condition = SLOT_NEWER;
        return;
    }
    slot->seq = le_get64(block + SLOT_SEQ);
    memcpy(slot->state.cluster, block + SLOT_CLUSTER, sizeof slot->state.cluster);
    slot->state.id = le_get64(block + SLOT_ID);
    slot->state.incarnation = le_get64(block + SLOT_INCARNATION);
    slot->state.starts = le_get64(block + SLOT_STARTS);
    slot->state.term = le_get64(block + SLOT_TERM);
    slot->state.vote = le_get64(block + SLOT_VOTE);
    slot->condition = slot->seq > 0 && slot->state.id > 0 ? SLOT_GOOD : SLOT_BAD;
}

static bool state_same_node(const struct slots_state *a, const struct slots_state *b)
{
    return memcmp(a->cluster, b->cluster, sizeof a->cluster) == 0 && a->id == b->id && a->incarnation == b->incarnation;
}

static bool state_equal(const struct slots_state *a, const struct slots_state *b)
{
    return state_same_node(a, b) && a->starts == b->starts && a->term == b->term && a->vote == b->vote;
}

/* NULL if the order of writes can have led to these two good slots, else what is wrong with them. */
static const char *slots_contradiction(const struct slot *a, const struct slot *b)
{
    if (!state_same_node(&a->state, &b->state)) {
        return "its two slots belong to different nodes";
    }
    if (a->seq == b->seq) {
        return state_equal(&a->state, &b->state) ? NULL : "its two slots differ though they have the same number";
    }
    if (a->seq != b->seq + 1) {
        return "one of its two slots lost a write";
    }
    if (a->state.term < b->state.term || a->state.starts < b->state.starts) {
        return "its newer slot is behind its older one";
    }
    return NULL;
}

static enum slots_status status_of(enum env_status status)
{
    switch (status) {
    case ENV_OK:
        return SLOTS_OK;
    case ENV_NOT_FOUND:
        return SLOTS_EMPTY;
    case ENV_NO_MEMORY:
        return SLOTS_NO_MEMORY;
    default:
        return SLOTS_IO;
    }
}

static struct slots *slots_new(struct env *env)
{
    struct slots *slots = calloc(1, sizeof *slots);
    if (slots == NULL) {
        return NULL;
    }
    slots->env = env;
    slots->block = aligned_alloc(ENV_BLOCK, ENV_BLOCK);
    if (slots->block == NULL) {
        free(slots);
        return NULL;
    }
    return slots;
}

void slots_close(struct slots *slots)
{
    if (slots == NULL) {
        return;
    }
    if (slots->file != NULL) {
        slots->env->ops->close(slots->env, slots->file);
    }
    free(slots->block);
    free(slots);
}

static enum env_status write_slot(struct slots *slots, unsigned which)
{
    return slots->env->ops->write_sync(slots->env, slots->file, (uint64_t)which * ENV_BLOCK, slots->block, ENV_BLOCK);
}

/* Both slots, in the order on which the rule rests. */
static enum env_status write_both(struct slots *slots, uint64_t seq, const struct slots_state *state)
{
    slot_encode(slots->block, seq, state);
    enum env_status status = write_slot(slots, 0);
    if (status == ENV_OK) {
        status = write_slot(slots, 1);
    }
    return status;
}

enum slots_status slots_create(struct env *env, const struct slots_state *state, struct slots **out)
{
    assert(state->id != 0);
    assert(state->incarnation != 0);
    struct slots *slots = slots_new(env);
    if (slots == NULL) {
        return SLOTS_NO_MEMORY;
    }
    /* The file appears under its name only when both slots are in it, so an empty or half-written one is never met. */
    enum env_status status = env->ops->remove_sync(env, SLOTS_NAME_NEW);
    if (status != ENV_OK && status != ENV_NOT_FOUND) {
        goto err;
    }
    status = env->ops->create(env, SLOTS_NAME_NEW, 2 * ENV_BLOCK, &slots->file);
    if (status != ENV_OK) {
        slots->file = NULL;
        goto err;
    }
    slots->seq = 1;
    status = write_both(slots, slots->seq, state);
    if (status == ENV_OK) {
        status = env->ops->rename_sync(env, SLOTS_NAME_NEW, SLOTS_NAME);
    }
    if (status != ENV_OK) {
        goto err;
    }
    *out = slots;
    return SLOTS_OK;
err:
    slots_close(slots);
    return status == ENV_NO_MEMORY ? SLOTS_NO_MEMORY : SLOTS_IO;
}

static enum slots_status read_slots(struct slots *slots, struct slot pair[2])
{
    for (unsigned i = 0; i < 2; i++) {
        enum env_status status =
            slots->env->ops->read_sync(slots->env, slots->file, (uint64_t)i * ENV_BLOCK, slots->block, ENV_BLOCK);
        if (status != ENV_OK) {
            return SLOTS_IO;
        }
        slot_decode(slots->block, &pair[i]);
    }
    return SLOTS_OK;
}

/* Bring the other slot up to the one that is taken. */
static enum slots_status repair(struct slots *slots, const struct slot *from, unsigned to)
{
    slot_encode(slots->block, from->seq, &from->state);
    return write_slot(slots, to) == ENV_OK ? SLOTS_OK : SLOTS_IO;
}

static const char *slots_judge(const struct slot pair[2])
{
    if (pair[0].condition == SLOT_BAD && pair[1].condition == SLOT_BAD) {
        return "both of its slots are damaged";
    }
    if (pair[0].condition == SLOT_GOOD && pair[1].condition == SLOT_GOOD) {
        return slots_contradiction(&pair[0], &pair[1]);
    }
    return NULL;
}

static enum slots_status settle(struct slots *slots, const struct slot pair[2], unsigned take)
{
    const struct slot *other = &pair[1 - take];
    slots->seq = pair[take].seq;
    if (other->condition == SLOT_GOOD && other->seq == pair[take].seq) {
        return SLOTS_OK;
    }
    char text[120];
    snprintf(text, sizeof text, "slots: %s slot %c of %s from the other one",
             other->condition == SLOT_GOOD ? "completing" : "repairing damaged", 'A' + (int)(1 - take), SLOTS_NAME);
    slots->env->ops->log(slots->env, other->condition == SLOT_GOOD ? 2 : 1, text);
    return repair(slots, &pair[take], 1 - take);
}

enum slots_status slots_open(struct env *env, struct slots **out, struct slots_state *state, const char **error)
{
    static _Thread_local char text[400];
    *error = text;
    snprintf(text, sizeof text, "out of memory");
    struct slots *slots = slots_new(env);
    if (slots == NULL) {
        return SLOTS_NO_MEMORY;
    }
    snprintf(text, sizeof text, "can't read or write %s. check the disk, then start this node again", SLOTS_NAME);
    struct slot pair[2];
    uint64_t size;
    enum slots_status status = status_of(env->ops->open(env, SLOTS_NAME, &slots->file, &size));
    if (status != SLOTS_OK) {
        slots->file = NULL;
        goto err;
    }
    status = read_slots(slots, pair);
    if (status != SLOTS_OK) {
        goto err;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (pair[i].condition == SLOT_NEWER) {
            snprintf(text, sizeof text, "%s has format version %u; this version reads up to %u: start a newer version",
                     SLOTS_NAME, pair[i].version, SLOTS_VERSION_MAX);
            status = SLOTS_VERSION;
            goto err;
        }
    }
    const char *wrong = slots_judge(pair);
    if (wrong != NULL) {
        snprintf(text, sizeof text,
                 "%s, which holds term and vote, is damaged: %s. Going on could vote twice. Do not delete or edit it. "
                 "Remove this member from the cluster, keep the directory, and start the node with an empty directory "
                 "under a fresh id.",
                 SLOTS_NAME, wrong);
        status = SLOTS_CORRUPT;
        goto err;
    }
    unsigned take = pair[0].condition == SLOT_GOOD ? 0 : 1;
    status = settle(slots, pair, take);
    if (status != SLOTS_OK) {
        goto err;
    }
    *state = pair[take].state;
    *out = slots;
    *error = NULL;
    return SLOTS_OK;
err:
    slots_close(slots);
    return status;
}

enum slots_status slots_write(struct slots *slots, const struct slots_state *state)
{
    if (slots->failed) {
        return SLOTS_IO;
    }
    enum env_status status = write_both(slots, slots->seq + 1, state);
    if (status != ENV_OK) {
        slots->failed = true;
        return SLOTS_IO;
    }
    slots->seq++;
    return SLOTS_OK;
}
