#include "consensus/message.h"

#include <assert.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian and copied as they are");

/* Wire structs: naturally aligned, no padding, reserved bytes zero. */
struct wire_head {
    uint8_t channel, version, type, flags;
    uint32_t count; /* APPEND: number of entries; SNAPSHOT_OFFER, SNAPSHOT_PIECE: bytes of data; else 0 */
    uint64_t term;
};
static_assert(sizeof(struct wire_head) == 16, "wire format");

struct wire_append {
    uint64_t prev_index, prev_term, commit, stamp, exposed, instant, needs;
    uint32_t grant_us, reserved;
};
static_assert(sizeof(struct wire_append) == 64, "wire format");
static_assert(sizeof(struct wire_head) + sizeof(struct wire_append) <= MESSAGE_HEAD_MAX, "head bound");

struct wire_result {
    uint64_t rejected, last_index;
    uint16_t features, capacity;
    uint32_t reserved;
};
static_assert(sizeof(struct wire_result) == 24, "wire format");

struct wire_vote {
    uint64_t candidate, last_index, last_term;
};
static_assert(sizeof(struct wire_vote) == 24, "wire format");

struct wire_vote_result {
    uint16_t features, capacity;
    uint32_t reserved;
};
static_assert(sizeof(struct wire_vote_result) == 8, "wire format");

struct wire_timeout_now {
    uint64_t last_index, last_term;
};
static_assert(sizeof(struct wire_timeout_now) == 16, "wire format");

struct wire_ping {
    uint64_t stamp;
};
static_assert(sizeof(struct wire_ping) == 8, "wire format");

struct wire_echo {
    uint64_t stamp, instant, received, wall_ms, applied, digest_index, digest;
};
static_assert(sizeof(struct wire_echo) == 56, "wire format");

struct wire_pull {
    uint64_t index;
};
static_assert(sizeof(struct wire_pull) == 8, "wire format");
static_assert(sizeof(struct wire_head) + sizeof(struct wire_echo) <= MESSAGE_HEAD_MAX, "head bound");

struct wire_position {
    uint64_t number, offset, payload, check;
};

struct wire_offer {
    uint64_t log_first, file_bytes;
};
static_assert(sizeof(struct wire_offer) == 16, "wire format");

struct wire_ask {
    uint8_t file_id[16];
    uint64_t index, term;
    struct wire_position at;
    uint64_t stamp;
    uint32_t window, round;
};
static_assert(sizeof(struct wire_ask) == 80, "wire format");
static_assert(sizeof(struct wire_head) + sizeof(struct wire_ask) <= MESSAGE_HEAD_MAX, "head bound");

struct wire_piece {
    uint8_t file_id[16];
    struct wire_position at;
    uint64_t stamp;
    uint32_t round, reserved;
};
static_assert(sizeof(struct wire_piece) == 64, "wire format");

struct wire_done {
    uint8_t file_id[16];
};
static_assert(sizeof(struct wire_done) == 16, "wire format");

struct wire_refused {
    uint8_t file_id[16];
    uint64_t index;
    uint32_t why, reserved;
};
static_assert(sizeof(struct wire_refused) == 32, "wire format");

struct wire_removed {
    uint64_t index;
};
static_assert(sizeof(struct wire_removed) == 8, "wire format");

struct wire_verdict {
    uint64_t index, digest;
};
static_assert(sizeof(struct wire_verdict) == 16, "wire format");

struct wire_entry {
    uint64_t term;
    uint32_t len;
    uint8_t type;
    uint8_t reserved[3];
};
static_assert(sizeof(struct wire_entry) == MESSAGE_ENTRY_HEAD, "wire format");

enum {
    FLAG_GRANTED = 1,
    FLAG_PRE_VOTE = 2,
    FLAG_DISRUPT = 4,
    FLAG_ACCEPTED = 8,
    FLAG_DISPUTED = 16,
    FLAG_WAITS = 32,
    FLAG_WRITES = 64
};
/* APPEND: enum snapshot_turn in these two bits. */
#define TURN_SHIFT 5
#define TURN_MASK 3
static_assert(SNAPSHOT_TURN_OWN <= TURN_MASK, "wire format");

static size_t put(uint8_t *out, size_t at, const void *body, size_t len)
{
    memcpy(out + at, body, len);
    return at + len;
}

static uint8_t encode_flags(const struct message *m)
{
    switch (m->type) {
    case MESSAGE_APPEND:
        return (uint8_t)(m->append.turn << TURN_SHIFT);
    case MESSAGE_VOTE:
        return (uint8_t)((m->vote.disrupt_leader ? FLAG_DISRUPT : 0) | (m->vote.pre_vote ? FLAG_PRE_VOTE : 0));
    case MESSAGE_VOTE_RESULT:
        return (uint8_t)((m->vote_result.granted ? FLAG_GRANTED : 0) | (m->vote_result.pre_vote ? FLAG_PRE_VOTE : 0));
    case MESSAGE_ECHO:
        return (uint8_t)((m->echo.accepted ? FLAG_ACCEPTED : 0) | (m->echo.snapshot_waits ? FLAG_WAITS : 0) |
                         (m->echo.snapshot_writes ? FLAG_WRITES : 0));
    case MESSAGE_VERDICT:
        return m->verdict.disputed ? FLAG_DISPUTED : 0;
    default:
        return 0;
    }
}

static uint32_t encode_count(const struct message *m)
{
    switch (m->type) {
    case MESSAGE_APPEND:
        return m->append.n_entries;
    case MESSAGE_SNAPSHOT_OFFER:
        return m->snapshot_offer.header_len;
    case MESSAGE_SNAPSHOT_PIECE:
        return m->snapshot_piece.len;
    default:
        return 0;
    }
}

static struct wire_position encode_position(const struct message_position *at)
{
    return (struct wire_position){at->number, at->offset, at->payload, at->check};
}

/* What moves snapshots. */
static size_t encode_snapshot(const struct message *m, uint8_t *out, size_t n)
{
    switch (m->type) {
    case MESSAGE_SNAPSHOT_OFFER: {
        const struct wire_offer w = {m->snapshot_offer.log_first, m->snapshot_offer.file_bytes};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_SNAPSHOT_ASK: {
        const struct message_snapshot_ask *ask = &m->snapshot_ask;
        struct wire_ask w = {.index = ask->file.index,
                             .term = ask->file.term,
                             .at = encode_position(&ask->at),
                             .stamp = ask->stamp,
                             .window = ask->window,
                             .round = ask->round};
        memcpy(w.file_id, ask->file.id, sizeof w.file_id);
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_SNAPSHOT_PIECE: {
        const struct message_snapshot_piece *piece = &m->snapshot_piece;
        struct wire_piece w = {.at = encode_position(&piece->at), .stamp = piece->stamp, .round = piece->round};
        memcpy(w.file_id, piece->file_id, sizeof w.file_id);
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_SNAPSHOT_DONE: {
        struct wire_done w;
        memcpy(w.file_id, m->snapshot_done.file_id, sizeof w.file_id);
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_SNAPSHOT_REFUSED: {
        struct wire_refused w = {.index = m->snapshot_refused.index, .why = (uint32_t)m->snapshot_refused.why};
        memcpy(w.file_id, m->snapshot_refused.file_id, sizeof w.file_id);
        return put(out, n, &w, sizeof w);
    }
    default:
        assert(false);
        return 0;
    }
}

/* What leases, reads and the watch over contents and members need beside the log. */
static size_t encode_lease(const struct message *m, uint8_t *out, size_t n)
{
    switch (m->type) {
    case MESSAGE_PING: {
        const struct wire_ping w = {m->ping.stamp};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_ECHO: {
        const struct wire_echo w = {.stamp = m->echo.stamp,
                                    .instant = m->echo.instant,
                                    .received = m->echo.received,
                                    .wall_ms = m->echo.wall_ms,
                                    .applied = m->echo.applied,
                                    .digest_index = m->echo.digest_index,
                                    .digest = m->echo.digest};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_PULL: {
        const struct wire_pull w = {m->pull.index};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_REMOVED: {
        const struct wire_removed w = {m->removed.index};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_VERDICT: {
        const struct wire_verdict w = {m->verdict.index, m->verdict.digest};
        return put(out, n, &w, sizeof w);
    }
    default:
        return encode_snapshot(m, out, n);
    }
}

size_t message_encode(const struct message *m, void *head)
{
    uint8_t *out = head;
    const struct wire_head h = {.channel = MESSAGE_CHANNEL,
                                .version = MESSAGE_VERSION,
                                .type = (uint8_t)m->type,
                                .flags = encode_flags(m),
                                .count = encode_count(m),
                                .term = m->term};
    size_t n = put(out, 0, &h, sizeof h);

    switch (m->type) {
    case MESSAGE_APPEND: {
        const struct wire_append w = {.prev_index = m->append.prev_index,
                                      .prev_term = m->append.prev_term,
                                      .commit = m->append.commit,
                                      .stamp = m->append.stamp,
                                      .exposed = m->append.exposed,
                                      .instant = m->append.instant,
                                      .needs = m->append.needs,
                                      .grant_us = m->append.grant_us};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_APPEND_RESULT: {
        const struct wire_result w = {.rejected = m->append_result.rejected,
                                      .last_index = m->append_result.last_index,
                                      .features = m->append_result.features,
                                      .capacity = m->append_result.capacity};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_VOTE: {
        const struct wire_vote w = {m->vote.candidate, m->vote.last_index, m->vote.last_term};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_VOTE_RESULT: {
        const struct wire_vote_result w = {.features = m->vote_result.features, .capacity = m->vote_result.capacity};
        return put(out, n, &w, sizeof w);
    }
    case MESSAGE_TIMEOUT_NOW: {
        const struct wire_timeout_now w = {m->timeout_now.last_index, m->timeout_now.last_term};
        return put(out, n, &w, sizeof w);
    }
    default:
        return encode_lease(m, out, n);
    }
}

void message_encode_entry(const struct message_entry *entry, void *out)
{
    const struct wire_entry w = {.term = entry->term, .len = entry->len, .type = entry->type};

    memcpy(out, &w, sizeof w);
}

/* Take the next `n` bytes of a frame; false if it ends before. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *c, void *out, size_t n)
{
    if (c->left < n) {
        return false;
    }
    memcpy(out, c->at, n);
    c->at += n;
    c->left -= n;
    return true;
}

/* Data in a frame, zero-padded. */
static bool take_data(struct cursor *c, uint32_t len, const void **data)
{
    const size_t padded = message_padded(len);

    if (c->left < padded) {
        return false;
    }
    *data = c->at;
    c->at += padded;
    c->left -= padded;
    return true;
}

static bool decode_append(struct cursor *c, const struct wire_head *h, struct message *m, struct message_entry *entries)
{
    const uint32_t count = h->count;
    struct wire_append w;

    if (!take(c, &w, sizeof w) || count > MESSAGE_ENTRIES_MAX) {
        return false;
    }
    m->append = (struct message_append){.prev_index = w.prev_index,
                                        .prev_term = w.prev_term,
                                        .commit = w.commit,
                                        .stamp = w.stamp,
                                        .exposed = w.exposed,
                                        .instant = w.instant,
                                        .grant_us = w.grant_us,
                                        .needs = w.needs,
                                        .turn = (enum snapshot_turn)((h->flags >> TURN_SHIFT) & TURN_MASK),
                                        .n_entries = count};
    if ((w.prev_index == 0) != (w.prev_term == 0) || w.prev_term > m->term ||
        w.prev_index > UINT64_MAX - MESSAGE_ENTRIES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct wire_entry e;
        /* Terms in a log never fall and never exceed the leader's. */
        const uint64_t floor = i == 0 ? w.prev_term : entries[i - 1].term;
        if (!take(c, &e, sizeof e) || e.term == 0 || e.term < floor || e.term > m->term || e.type < 1 || e.type > 3) {
            return false;
        }
        entries[i] = (struct message_entry){e.term, e.type, e.len, NULL};
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!take_data(c, entries[i].len, &entries[i].data)) {
            return false;
        }
    }
    return true;
}

static struct message_position decode_position(const struct wire_position *w)
{
    return (struct message_position){w->number, w->offset, w->payload, w->check};
}

static bool decode_ask(struct cursor *c, struct message *m)
{
    struct message_snapshot_ask *ask = &m->snapshot_ask;
    struct wire_ask w;

    if (!take(c, &w, sizeof w)) {
        return false;
    }
    *ask = (struct message_snapshot_ask){.file = {.index = w.index, .term = w.term},
                                         .at = decode_position(&w.at),
                                         .stamp = w.stamp,
                                         .window = w.window,
                                         .round = w.round};
    memcpy(ask->file.id, w.file_id, sizeof w.file_id);
    return w.index != 0 && w.index < UINT64_MAX / 2 && w.term != 0 && w.term <= m->term && w.round != 0 &&
           w.at.offset < UINT64_MAX / 2;
}

/* What moves snapshots and carries no data. */
static bool decode_snapshot(struct cursor *c, struct message *m)
{
    switch (m->type) {
    case MESSAGE_SNAPSHOT_ASK:
        return decode_ask(c, m);
    case MESSAGE_SNAPSHOT_DONE: {
        struct wire_done w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        memcpy(m->snapshot_done.file_id, w.file_id, sizeof w.file_id);
        return true;
    }
    case MESSAGE_SNAPSHOT_REFUSED: {
        struct wire_refused w;
        if (!take(c, &w, sizeof w) || w.why == 0 || w.why >= MESSAGE_REFUSALS) {
            return false;
        }
        m->snapshot_refused = (struct message_snapshot_refused){.index = w.index, .why = (enum message_refusal)w.why};
        memcpy(m->snapshot_refused.file_id, w.file_id, sizeof w.file_id);
        return true;
    }
    default:
        return false;
    }
}

static bool decode_offer(struct cursor *c, uint32_t len, struct message *m)
{
    struct wire_offer w;

    if (!take(c, &w, sizeof w) || len == 0 || len > MESSAGE_SNAPSHOT_HEADER_MAX || w.log_first == 0) {
        return false;
    }
    m->snapshot_offer =
        (struct message_snapshot_offer){.log_first = w.log_first, .file_bytes = w.file_bytes, .header_len = len};
    return take_data(c, len, &m->snapshot_offer.header);
}

static bool decode_piece(struct cursor *c, uint32_t len, struct message *m)
{
    struct wire_piece w;

    if (!take(c, &w, sizeof w) || len == 0 || len > MESSAGE_SNAPSHOT_PIECE_MAX || w.round == 0) {
        return false;
    }
    m->snapshot_piece =
        (struct message_snapshot_piece){.at = decode_position(&w.at), .stamp = w.stamp, .round = w.round, .len = len};
    memcpy(m->snapshot_piece.file_id, w.file_id, sizeof w.file_id);
    return take_data(c, len, &m->snapshot_piece.data);
}

/* What leases and reads need beside the log. */
static bool decode_lease(struct cursor *c, uint8_t flags, struct message *m)
{
    switch (m->type) {
    case MESSAGE_PING: {
        struct wire_ping w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->ping = (struct message_ping){w.stamp};
        return w.stamp != 0;
    }
    case MESSAGE_ECHO: {
        struct wire_echo w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->echo = (struct message_echo){.stamp = w.stamp,
                                        .accepted = (flags & FLAG_ACCEPTED) != 0,
                                        .instant = w.instant,
                                        .received = w.received,
                                        .wall_ms = w.wall_ms,
                                        .applied = w.applied,
                                        .digest_index = w.digest_index,
                                        .digest = w.digest,
                                        .snapshot_waits = (flags & FLAG_WAITS) != 0,
                                        .snapshot_writes = (flags & FLAG_WRITES) != 0};
        return w.stamp != 0;
    }
    case MESSAGE_PULL: {
        struct wire_pull w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->pull = (struct message_pull){w.index};
        return true;
    }
    case MESSAGE_REMOVED: {
        struct wire_removed w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->removed = (struct message_removed){w.index};
        return w.index != 0;
    }
    case MESSAGE_VERDICT: {
        struct wire_verdict w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->verdict = (struct message_verdict){w.index, w.digest, (flags & FLAG_DISPUTED) != 0};
        return w.index != 0;
    }
    default:
        return decode_snapshot(c, m);
    }
}

static bool decode_rest(struct cursor *c, uint8_t flags, struct message *m)
{
    switch (m->type) {
    case MESSAGE_APPEND_RESULT: {
        struct wire_result w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->append_result = (struct message_append_result){w.rejected, w.last_index, w.features, w.capacity};
        /* The core would otherwise compute an index above any log. */
        return w.last_index < UINT64_MAX / 2 && w.rejected < UINT64_MAX / 2;
    }
    case MESSAGE_VOTE: {
        struct wire_vote w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->vote = (struct message_vote){w.candidate, w.last_index, w.last_term, (flags & FLAG_DISRUPT) != 0,
                                        (flags & FLAG_PRE_VOTE) != 0};
        return w.candidate != 0;
    }
    case MESSAGE_VOTE_RESULT: {
        struct wire_vote_result w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->vote_result = (struct message_vote_result){(flags & FLAG_GRANTED) != 0, (flags & FLAG_PRE_VOTE) != 0,
                                                      w.features, w.capacity};
        return true;
    }
    case MESSAGE_TIMEOUT_NOW: {
        struct wire_timeout_now w;
        if (!take(c, &w, sizeof w)) {
            return false;
        }
        m->timeout_now = (struct message_timeout_now){w.last_index, w.last_term};
        return true;
    }
    default:
        return decode_lease(c, flags, m);
    }
}

bool message_decode(const void *frame, size_t len, struct message *m, struct message_entry *entries)
{
    struct cursor c = {frame, len};
    struct wire_head h;

    if (!take(&c, &h, sizeof h) || h.channel != MESSAGE_CHANNEL || h.version != MESSAGE_VERSION || h.term == 0 ||
        h.term >= UINT64_MAX / 2) {
        return false;
    }
    m->type = (enum message_type)h.type;
    m->term = h.term;
    switch (m->type) {
    case MESSAGE_APPEND:
        return decode_append(&c, &h, m, entries) && c.left == 0;
    case MESSAGE_SNAPSHOT_OFFER:
        return decode_offer(&c, h.count, m) && c.left == 0;
    case MESSAGE_SNAPSHOT_PIECE:
        return decode_piece(&c, h.count, m) && c.left == 0;
    default:
        break;
    }
    return h.count == 0 && decode_rest(&c, h.flags, m) && c.left == 0;
}
