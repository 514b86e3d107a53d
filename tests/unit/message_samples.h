/* One message of each type with every field set, and the whole frame of a message: for the tests of the codec. */
#ifndef LOCKSTEP_MESSAGE_SAMPLES_H
#define LOCKSTEP_MESSAGE_SAMPLES_H

#include <check.h>
#include <string.h>

#include "consensus/message.h"

#define SAMPLE_FRAME_MAX (512u * 1024)
#define SAMPLE_ENTRIES 3u
#define SAMPLES (MESSAGE_VERDICT + 0u)

static const struct message_entry sample_entries[SAMPLE_ENTRIES] = {
    {.term = 3, .type = 3, .len = 9, .data = "configure"},
    {.term = 5, .type = 1, .len = 16, .data = "a command of 16."},
    {.term = 7, .type = 2, .len = 0, .data = ""},
};

#define SAMPLE_FILE_ID                                                                                                 \
    {                                                                                                                  \
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf                 \
    }

static inline struct message sample_of_snapshot(enum message_type type)
{
    struct message m = {.type = type, .term = 7};
    const struct message_position at = {0x31, 0x32, 0x33, 0x34};
    switch (type) {
    case MESSAGE_SNAPSHOT_OFFER:
        m.snapshot_offer = (struct message_snapshot_offer){
            .log_first = 0x21, .file_bytes = 0x22, .header_len = 11, .header = "eleven byte"};
        break;
    case MESSAGE_SNAPSHOT_ASK:
        m.snapshot_ask = (struct message_snapshot_ask){.file = {.id = SAMPLE_FILE_ID, .index = 0x41, .term = 6},
                                                       .at = at,
                                                       .stamp = 0x42,
                                                       .window = 0x43,
                                                       .round = 0x44};
        break;
    case MESSAGE_SNAPSHOT_PIECE:
        m.snapshot_piece = (struct message_snapshot_piece){
            .file_id = SAMPLE_FILE_ID, .at = at, .stamp = 0x51, .round = 0x52, .len = 5, .data = "block"};
        break;
    case MESSAGE_SNAPSHOT_DONE:
        m.snapshot_done = (struct message_snapshot_done){SAMPLE_FILE_ID};
        break;
    case MESSAGE_SNAPSHOT_REFUSED:
        m.snapshot_refused = (struct message_snapshot_refused){SAMPLE_FILE_ID, 0x61, MESSAGE_REFUSED_OTHER};
        break;
    default:
        ck_abort_msg("no sample of type %d", (int)type);
    }
    return m;
}

static inline struct message sample_of(enum message_type type)
{
    struct message m = {.type = type, .term = 7};
    switch (type) {
    case MESSAGE_APPEND:
        m.append = (struct message_append){.prev_index = 0x11,
                                           .prev_term = 2,
                                           .commit = 0x12,
                                           .stamp = 0x13,
                                           .exposed = 0x14,
                                           .instant = 0x15,
                                           .grant_us = 0x16,
                                           .needs = 0x17,
                                           .n_entries = SAMPLE_ENTRIES};
        break;
    case MESSAGE_APPEND_RESULT:
        m.append_result = (struct message_append_result){0x11, 0x12, 0x13, 0x14};
        break;
    case MESSAGE_VOTE:
        m.vote = (struct message_vote){0x11, 0x12, 0x13, true, true};
        break;
    case MESSAGE_VOTE_RESULT:
        m.vote_result = (struct message_vote_result){true, true, 0x11, 0x12};
        break;
    case MESSAGE_TIMEOUT_NOW:
        m.timeout_now = (struct message_timeout_now){0x11, 0x12};
        break;
    case MESSAGE_PING:
        m.ping = (struct message_ping){0x11};
        break;
    case MESSAGE_ECHO:
        m.echo = (struct message_echo){.stamp = 0x11,
                                       .accepted = true,
                                       .instant = 0x12,
                                       .received = 0x13,
                                       .wall_ms = 0x14,
                                       .applied = 0x15,
                                       .digest_index = 0x16,
                                       .digest = 0x17};
        break;
    case MESSAGE_PULL:
        m.pull = (struct message_pull){0x11};
        break;
    case MESSAGE_REMOVED:
        m.removed = (struct message_removed){0x11};
        break;
    case MESSAGE_VERDICT:
        m.verdict = (struct message_verdict){0x11, 0x12, true};
        break;
    default:
        return sample_of_snapshot(type);
    }
    return m;
}

static inline size_t sample_put(uint8_t *frame, size_t n, const void *data, size_t len)
{
    ck_assert_uint_le(n + message_padded(len), SAMPLE_FRAME_MAX);
    memset(frame + n, 0, message_padded(len));
    if (len > 0)
        memcpy(frame + n, data, len);
    return n + message_padded(len);
}

/* The whole frame into `frame` (SAMPLE_FRAME_MAX bytes); returns its length. */
static inline size_t frame_of(const struct message *m, const struct message_entry *entries, uint8_t *frame)
{
    size_t n = message_encode(m, frame);
    ck_assert_uint_le(n, MESSAGE_HEAD_MAX);
    if (m->type == MESSAGE_APPEND) {
        for (unsigned i = 0; i < m->append.n_entries; i++, n += MESSAGE_ENTRY_HEAD)
            message_encode_entry(&entries[i], frame + n);
        for (unsigned i = 0; i < m->append.n_entries; i++)
            n = sample_put(frame, n, entries[i].data, entries[i].len);
    } else if (m->type == MESSAGE_SNAPSHOT_OFFER) {
        n = sample_put(frame, n, m->snapshot_offer.header, m->snapshot_offer.header_len);
    } else if (m->type == MESSAGE_SNAPSHOT_PIECE) {
        n = sample_put(frame, n, m->snapshot_piece.data, m->snapshot_piece.len);
    }
    return n;
}

#endif
