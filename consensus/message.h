/* The peer message codec: consensus frames to and from bytes. Pure: owns nothing, allocates nothing, knows nothing of
 * the core. Every bound is checked on decoding; a frame that fails any check is refused whole.
 * Format: docs/FORMATS.md, section Peer messages. */
#ifndef LOCKSTEP_MESSAGE_H
#define LOCKSTEP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/snapshot_turn.h"

/* First byte of every frame between nodes: who understands the rest. Other channels belong to cmd/. */
#define MESSAGE_CHANNEL 1u
#define MESSAGE_VERSION 1u

/* Bounds of one APPEND frame. A single entry above the byte bound travels alone. */
#define MESSAGE_ENTRIES_MAX 1024u
#define MESSAGE_APPEND_BYTES 262144u
/* Bounds of what travels of a snapshot file in one frame: its header, or one of its blocks. */
#define MESSAGE_SNAPSHOT_HEADER_MAX 69632u
#define MESSAGE_SNAPSHOT_PIECE_MAX 262208u

enum message_type {
    MESSAGE_APPEND = 1,
    MESSAGE_APPEND_RESULT,
    MESSAGE_VOTE,
    MESSAGE_VOTE_RESULT,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_PING, /* asks for an echo, carries nothing else */
    MESSAGE_ECHO,
    MESSAGE_PULL, /* a reader waits for an index: show it as soon as may be */
    /* A snapshot file from node to node. The receiver pulls; whoever has the file may answer, leader or not. */
    MESSAGE_SNAPSHOT_OFFER,   /* leader: the entries that you need are gone, take this file instead */
    MESSAGE_SNAPSHOT_ASK,     /* receiver: send the file's pieces from this position on */
    MESSAGE_SNAPSHOT_PIECE,   /* the answer: one piece */
    MESSAGE_SNAPSHOT_DONE,    /* receiver: installed, or not needed any more */
    MESSAGE_SNAPSHOT_REFUSED, /* either side: this transfer can't be */
    MESSAGE_REMOVED,          /* leader: you were removed from the cluster by this committed configuration */
    MESSAGE_VERDICT           /* leader: this is what a majority's content was, and yours was not */
};

struct message_entry {
    uint64_t term;
    uint8_t type; /* enum wal_entry_type */
    uint32_t len;
    const void *data;
};

struct message_append {
    uint64_t prev_index, prev_term, commit;
    uint64_t stamp;   /* the leader's send instant, unique and growing within the leader's life; 0: no echo wanted */
    uint64_t exposed; /* highest index that may be shown, on any node */
    uint64_t
        instant; /* the receiver's own instant of an echo: all acknowledged before it is exposed; 0: none is certain */
    uint32_t grant_us;       /* the receiver may read locally for this long from `instant`; 0: no grant */
    uint64_t needs;          /* ... once it has received this index */
    enum snapshot_turn turn; /* whose it is to write a snapshot, as the receiver should know it */
    unsigned n_entries;
};

struct message_append_result {
    uint64_t rejected, last_index;
    uint16_t features, capacity;
};

struct message_vote {
    uint64_t candidate, last_index, last_term;
    bool disrupt_leader, pre_vote;
};

struct message_vote_result {
    bool granted, pre_vote;
    uint16_t features, capacity;
};

struct message_timeout_now {
    uint64_t last_index, last_term;
};

struct message_ping {
    uint64_t stamp;
};

struct message_echo {
    uint64_t stamp;    /* of the frame being answered */
    bool accepted;     /* an APPEND is answered that the core took: the sender promises to elect nobody for T */
    uint64_t instant;  /* the sender's own send instant */
    uint64_t received; /* its log is the leader's up to here, in memory */
    uint64_t wall_ms;  /* a sample of the sender's wall clock */
    uint64_t applied;
    uint64_t digest_index; /* newest checkpoint of the sender's digest history, 0: none */
    uint64_t digest;
    /* The sender's snapshot is due and waits for a turn; one is under way, or was since the echo before. */
    bool snapshot_waits, snapshot_writes;
};

struct message_pull {
    uint64_t index;
};

struct message_removed {
    uint64_t index; /* of the configuration */
};

struct message_verdict {
    uint64_t index, digest; /* equal on a majority of voters */
    bool disputed;          /* none is: refuse reads for an election timeout */
};

/* Names a snapshot file: all copies of one file have the same id. */
struct message_file {
    uint8_t id[16];
    uint64_t index, term; /* of the last entry contained */
};

/* Where a piece begins; as struct snapshot_position. */
struct message_position {
    uint64_t number, offset, payload, check;
};

struct message_snapshot_offer {
    uint64_t log_first; /* the sender's log begins here */
    uint64_t file_bytes;
    uint32_t header_len; /* bytes of the file's header, which says everything else */
    const void *header;
};

/* With an id of zeros it asks for no file, but to be offered one of at least `file.index`, by a leader whose digest at
 * index `at.payload`, if it knows it, is `at.check` (replica_rebuild.c). */
struct message_snapshot_ask {
    struct message_file file;
    struct message_position at;
    uint64_t stamp;  /* of the receiver's clock: comes back with a piece */
    uint32_t window; /* pieces that begin up to this many bytes behind `at` may come unasked; 0: none now, but keep the
                        file */
    uint32_t round;  /* a higher one: begin again at `at`; the same: the window has moved. From 1 */
};

struct message_snapshot_piece {
    uint8_t file_id[16];
    struct message_position at;
    uint64_t stamp; /* of the newest ask */
    uint32_t round; /* of that ask; pieces of older ones are void */
    uint32_t len;
    const void *data;
};

struct message_snapshot_done {
    uint8_t file_id[16];
};

enum message_refusal {
    MESSAGE_REFUSED_GONE = 1, /* sender: it has no such file */
    MESSAGE_REFUSED_DAMAGED,  /* sender: its file is damaged there */
    MESSAGE_REFUSED_FOREIGN,  /* receiver: another cluster's */
    MESSAGE_REFUSED_VERSION,  /* receiver: it does not understand the header, or the feature level is above its own */
    MESSAGE_REFUSED_SETTINGS, /* receiver: the cluster runs with other timeouts than it */
    MESSAGE_REFUSED_NO_SPACE, /* receiver: its disk is too full */
    MESSAGE_REFUSED_CONTENT,  /* receiver: the file arrived whole, but its content can't be loaded */
    MESSAGE_REFUSED_OTHER,    /* receiver: it is fetching another file, up to `index` */
    MESSAGE_REFUSALS
};

struct message_snapshot_refused {
    uint8_t file_id[16];
    uint64_t index; /* REFUSED_OTHER: keep the log from here on; else 0 */
    enum message_refusal why;
};

struct message {
    enum message_type type;
    uint64_t term;
    union {
        struct message_append append;
        struct message_append_result append_result;
        struct message_vote vote;
        struct message_vote_result vote_result;
        struct message_timeout_now timeout_now;
        struct message_ping ping;
        struct message_echo echo;
        struct message_pull pull;
        struct message_removed removed;
        struct message_verdict verdict;
        struct message_snapshot_offer snapshot_offer;
        struct message_snapshot_ask snapshot_ask;
        struct message_snapshot_piece snapshot_piece;
        struct message_snapshot_done snapshot_done;
        struct message_snapshot_refused snapshot_refused;
    };
};

/* Largest encoded head of any message; APPEND adds MESSAGE_ENTRY_HEAD per entry and the padded data, SNAPSHOT_OFFER and
 * SNAPSHOT_PIECE add their padded data. */
#define MESSAGE_HEAD_MAX 96u
#define MESSAGE_ENTRY_HEAD 16u

/* Encode everything but an APPEND's entries, and the bytes of a snapshot's header or piece, into `head`
 * (MESSAGE_HEAD_MAX bytes); returns the length. */
size_t message_encode(const struct message *message, void *head);
/* Encode the table entry of one log entry (MESSAGE_ENTRY_HEAD bytes). All table entries follow the head, then the data
 * of each entry in turn, each padded to message_padded(len). */
void message_encode_entry(const struct message_entry *entry, void *out);
static inline size_t message_padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

/* Decode a frame. Entries of an APPEND are put into `entries` (MESSAGE_ENTRIES_MAX of them); their data, and that of a
 * snapshot, are borrowed from the frame. False: malformed. */
bool message_decode(const void *frame, size_t len, struct message *message, struct message_entry *entries);

#endif
