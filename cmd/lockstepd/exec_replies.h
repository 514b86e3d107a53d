/* Inside the executor: frames between executors, and the replies on their way to one other node. Loop thread only. */
#ifndef LOCKSTEP_EXEC_REPLIES_H
#define LOCKSTEP_EXEC_REPLIES_H

#include <assert.h>

#include "cmd/lockstepd/executor_internal.h"
#include "net/resp.h"

#define FORWARD_VERSION 1u
/* A frame is sent early above this size. */
#define FORWARD_FRAME_BYTES (1024u * 1024)

/* docs/FORMATS.md, section Forwarding. */
enum forward_type { FORWARD_REQUEST = 1, FORWARD_REPLY, FORWARD_RESET, FORWARD_STOP, FORWARD_GO };

struct wire_head {
    uint8_t channel, version, type, reserved;
    uint32_t count;
    uint64_t term; /* REQUEST: of the leader meant; STOP, GO: the session */
};
static_assert(sizeof(struct wire_head) == 16, "wire format");

/* False: nothing was given to the link. */
bool exec_send_frame(struct executor *ex, uint64_t peer, enum forward_type type, uint64_t term, uint32_t count,
                     const struct resp_buffer *items);

/* One node's. The frame that fills is written to by the owner; frames that are complete wait until the link has sent
 * most of what it has, so that consensus never stands behind many of them. */
struct reply_queue {
    /* public */
    uint64_t peer;
    struct resp_buffer bytes; /* of the frame that fills ... */
    uint32_t count;           /* ... and the replies in it */
    unsigned requests;        /* the owner's: unfinished ones that will write here */
    /* private */
    struct reply_frame *first, *last; /* complete */
    uint64_t waiting_bytes;           /* in them */
    bool lost;                        /* replies were dropped, and the peer has not been told */
};

void reply_queue_init(struct reply_queue *queue);
void reply_queue_fini(struct reply_queue *queue);
/* Give the link what it takes now. What exceeds executor_config.replies_bytes_max is dropped. */
void reply_queue_flush(struct executor *ex, struct reply_queue *queue);
/* The link broke or is new: nothing of what is complete goes out, and the peer needn't be told. */
void reply_queue_drop(struct reply_queue *queue);
/* Is there something that flush has left, and will be asked for again? */
bool reply_queue_waits(const struct reply_queue *queue);
/* Replies that can wait had better do so. */
bool reply_queue_full(const struct reply_queue *queue);

#endif
