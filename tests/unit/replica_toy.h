/* A lone replica on an env in memory, with a toy state machine that takes snapshots: for tests of what it does with
 * them. Everything is of the test that runs. */
#ifndef LOCKSTEP_REPLICA_TOY_H
#define LOCKSTEP_REPLICA_TOY_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica.h"
#include "tests/unit/mem_env.h"

/* --- A state machine: a sum, a counter, and filler that only makes its stream long
 * ------------------------------------ */

struct toy {
    uint64_t revision, time_ms, sum;
    uint64_t filler; /* bytes */
    bool overflow, broken;
    bool lies; /* its stream says another sum than it has */
    unsigned cuts, loads;
};

struct toy_entry {
    uint64_t time_ms, value;
    uint8_t padding[2000];
};

struct toy_head {
    uint64_t revision, time_ms, sum, filler;
};

struct toy_cut {
    struct toy *toy;
    struct toy_head head;
    uint64_t at;
};

struct toy_load {
    struct toy *toy;
    struct toy_head head;
    uint64_t at;
    bool bad;
};

static inline uint64_t toy_digest_of(const struct toy_head *head)
{
    return head->sum * 31 + head->revision;
}

static inline void toy_apply(void *ctx, uint64_t index, uint64_t term, const void *data, size_t len,
                             struct proposal *proposal)
{
    struct toy *toy = ctx;
    const struct toy_entry *entry = data;

    (void)index, (void)term, (void)proposal;
    ck_assert_uint_eq(len, sizeof *entry);
    toy->revision++;
    toy->time_ms = entry->time_ms;
    toy->sum = toy->sum * 33 + entry->value;
}

static inline uint64_t toy_time_ms(void *ctx)
{
    return ((struct toy *)ctx)->time_ms;
}

static inline uint64_t toy_digest(void *ctx)
{
    const struct toy *toy = ctx;
    const struct toy_head head = {.revision = toy->revision, .sum = toy->sum};
    return toy_digest_of(&head);
}

static inline uint64_t toy_entry_time_ms(void *ctx, const void *data, size_t len)
{
    (void)ctx, (void)len;
    return ((const struct toy_entry *)data)->time_ms;
}

static inline void *toy_cut_begin(void *ctx, struct replica_cut *shown)
{
    struct toy *toy = ctx;
    struct toy_cut *cut = calloc(1, sizeof *cut);

    ck_assert_ptr_nonnull(cut);
    cut->toy = toy;
    cut->head = (struct toy_head){toy->revision, toy->time_ms, toy->sum + (toy->lies ? 1 : 0), toy->filler};
    toy->cuts++;
    *shown = (struct replica_cut){toy->revision, toy->time_ms, toy_digest(toy)};
    return cut;
}

static uint8_t filler_at(uint64_t at)
{
    return (uint8_t)((at * 2654435761u) >> 24);
}

static inline enum replica_cut_state
toy_cut_step(void *handle, size_t bytes_max, void (*emit)(void *emit_ctx, const void *data, size_t len), void *emit_ctx)
{
    struct toy_cut *cut = handle;
    uint8_t bytes[4096];
    size_t done = 0;

    if (cut->toy->overflow || cut->toy->broken) {
        return cut->toy->overflow ? REPLICA_CUT_OVERFLOW : REPLICA_CUT_BROKEN;
    }
    if (cut->at == 0) {
        emit(emit_ctx, &cut->head, sizeof cut->head);
        cut->at = sizeof cut->head;
    }
    while (done < bytes_max && cut->at < sizeof cut->head + cut->head.filler) {
        size_t n = 0;
        for (; n < sizeof bytes && cut->at + n < sizeof cut->head + cut->head.filler; n++) {
            bytes[n] = filler_at(cut->at + n);
        }
        emit(emit_ctx, bytes, n);
        cut->at += n;
        done += n;
    }
    return cut->at == sizeof cut->head + cut->head.filler ? REPLICA_CUT_DONE : REPLICA_CUT_MORE;
}

static inline size_t toy_cut_pending(const void *handle)
{
    (void)handle;
    return 0;
}

static inline void toy_cut_end(void *handle)
{
    struct toy_cut *cut = handle;

    ck_assert_uint_gt(cut->toy->cuts, 0);
    cut->toy->cuts--;
    free(cut);
}

static inline void *toy_load_begin(void *ctx, uint64_t stream_bytes)
{
    struct toy_load *load = calloc(1, sizeof *load);

    (void)stream_bytes;
    ck_assert_ptr_nonnull(load);
    load->toy = ctx;
    load->toy->loads++;
    return load;
}

static inline bool toy_load_feed(void *handle, const void *data, size_t len)
{
    struct toy_load *load = handle;
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++, load->at++) {
        if (load->at < sizeof load->head) {
            ((uint8_t *)&load->head)[load->at] = bytes[i];
        } else {
            load->bad = load->bad || bytes[i] != filler_at(load->at);
        }
    }
    return !load->bad;
}

static inline bool toy_load_settle(void *handle, uint64_t budget)
{
    (void)handle, (void)budget;
    return true;
}

static inline bool toy_load_finish(void *handle, struct replica_cut *cut)
{
    struct toy_load *load = handle;

    if (load->at < sizeof load->head || load->at != sizeof load->head + load->head.filler) {
        return false;
    }
    *cut = (struct replica_cut){load->head.revision, load->head.time_ms, toy_digest_of(&load->head)};
    return true;
}

static inline uint64_t toy_load_keys(const void *handle, uint64_t *total)
{
    *total = 0;
    return ((const struct toy_load *)handle)->at;
}

static inline const char *toy_load_error(const void *handle)
{
    return ((const struct toy_load *)handle)->bad ? "bad filler" : "";
}

static inline void toy_load_abort(void *handle)
{
    struct toy_load *load = handle;

    load->toy->loads--;
    free(load);
}

static inline void toy_load_install(void *handle, uint64_t index)
{
    struct toy_load *load = handle;

    ck_assert_uint_gt(index, 0);
    load->toy->revision = load->head.revision;
    load->toy->time_ms = load->head.time_ms;
    load->toy->sum = load->head.sum;
    toy_load_abort(load);
}

/* --- The replica
 * ------------------------------------------------------------------------------------------------------ */

static struct mem_env *mem;
static struct toy toy;
static struct replica *replica;
static struct replica_fsm_snapshots snapshots;
static struct replica_fsm fsm;
static struct replica_config config;
static struct proposal proposals[4096];
static unsigned n_proposals;
static uint64_t value;

static inline void open_replica(void)
{
    const char *error = "";
    const struct toy empty = {.filler = toy.filler, .lies = toy.lies};

    toy = empty;
    const enum replica_status status = replica_open(mem_env_env(mem), &config, &replica, &error);
    ck_assert_msg(status == REPLICA_OK, "%s", error);
}

static inline void close_replica(void)
{
    replica_close(replica);
    replica = NULL;
    mem_env_run(mem);
    ck_assert_uint_eq(toy.cuts, 0);
    ck_assert_uint_eq(toy.loads, 0);
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
}

/* Loop turns in which the disk does all that it is asked for. */
static inline void turns(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        mem_env_run(mem);
        replica_turn_end(replica);
        mem_env_advance(mem, 1000);
    }
    mem_env_run(mem);
}

static inline struct replica_info look(void)
{
    struct replica_info info;
    replica_info(replica, &info);
    return info;
}

static inline void write_entries(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct toy_entry *entry = calloc(1, sizeof *entry);
        ck_assert_ptr_nonnull(entry);
        ck_assert_uint_lt(n_proposals, sizeof proposals / sizeof proposals[0]);
        *entry = (struct toy_entry){.time_ms = replica_cluster_time(replica), .value = ++value};
        ck_assert_int_eq(replica_propose(replica, entry, sizeof *entry, &proposals[n_proposals++]), REPLICA_OK);
        turns(2);
    }
}

static inline void unknown_cb(struct proposal *proposal)
{
    (void)proposal;
}

static inline void setup(void)
{
    static const struct replica_server self = {.id = 1, .address = "self", .voter = true};

    mem = mem_env_new(7);
    toy = (struct toy){0};
    value = 0;
    n_proposals = 0;
    for (size_t i = 0; i < sizeof proposals / sizeof proposals[0]; i++) {
        proposals[i] = (struct proposal){.unknown = unknown_cb};
    }
    snapshots = (struct replica_fsm_snapshots){.ctx = &toy,
                                               .cut_begin = toy_cut_begin,
                                               .cut_step = toy_cut_step,
                                               .cut_pending = toy_cut_pending,
                                               .cut_end = toy_cut_end,
                                               .load_begin = toy_load_begin,
                                               .load_feed = toy_load_feed,
                                               .load_settle = toy_load_settle,
                                               .load_finish = toy_load_finish,
                                               .load_keys = toy_load_keys,
                                               .load_error = toy_load_error,
                                               .load_install = toy_load_install,
                                               .load_abort = toy_load_abort};
    fsm = (struct replica_fsm){.ctx = &toy,
                               .apply = toy_apply,
                               .time_ms = toy_time_ms,
                               .digest = toy_digest,
                               .entry_time_ms = toy_entry_time_ms,
                               .snapshots = &snapshots};
    config = (struct replica_config){.id = 1,
                                     .servers = &self,
                                     .n_servers = 1,
                                     .entry_bytes_max = 4096,
                                     .segment_bytes = 16384,
                                     .snapshots = {.keep_bytes = UINT64_MAX},
                                     .fsm = &fsm};
    open_replica();
    turns(5);
}

static inline void teardown(void)
{
    if (replica != NULL) {
        close_replica();
    }
    mem_env_free(mem);
}

struct asked {
    struct replica_snapshot_request request;
    unsigned answers;
    enum replica_status status;
    struct replica_snapshot_info info;
};

static inline void asked_cb(struct replica_snapshot_request *request, enum replica_status status,
                            const struct replica_snapshot_info *info)
{
    struct asked *asked = request->data;

    asked->answers++;
    asked->status = status;
    ck_assert_int_eq(status == REPLICA_OK, info != NULL);
    if (info != NULL) {
        asked->info = *info;
    }
}

static inline void ask(struct asked *asked)
{
    *asked = (struct asked){.request = {.data = asked, .cb = asked_cb}};
    ck_assert_int_eq(replica_snapshot_take(replica, &asked->request), REPLICA_OK);
    ck_assert_uint_eq(asked->answers, 0);
}

static inline uint64_t take(void)
{
    struct asked asked;

    ask(&asked);
    turns(200);
    ck_assert_uint_eq(asked.answers, 1);
    ck_assert_msg(asked.status == REPLICA_OK, "%s", mem_env_log(mem));
    return asked.info.index;
}

#endif
