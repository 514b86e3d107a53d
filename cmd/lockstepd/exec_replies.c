#include "cmd/lockstepd/exec_replies.h"

#include <assert.h>
#include <stdlib.h>

/* The link has enough to do with this much. */
#define LINK_BYTES ((uint64_t)2 * 1024 * 1024)
/* Enough for the link to go on with while reads wait. */
#define FULL_BYTES ((uint64_t)4 * 1024 * 1024)
/* A larger frame is sent alone: the link's queue takes any frame, but only when it is empty. */
#define SHARING_BYTES_MAX ((size_t)32 * 1024 * 1024)
#define REPLIES_BYTES_DEFAULT ((uint64_t)256 * 1024 * 1024)

struct reply_frame {
    struct reply_frame *next;
    struct resp_buffer bytes;
    uint32_t count;
};

bool exec_send_frame(struct executor *ex, uint64_t peer, enum forward_type type, uint64_t term, uint32_t count,
                     const struct resp_buffer *items)
{
    struct env *env = ex->config.env;
    struct wire_head head = {EXECUTOR_CHANNEL, FORWARD_VERSION, (uint8_t)type, 0, count, term};
    const struct iovec pieces[2] = {{&head, sizeof head},
                                    {items != NULL ? items->data : NULL, items != NULL ? items->len : 0}};

    return env->ops->send(env, peer, pieces, items != NULL && items->len > 0 ? 2 : 1);
}

static void frame_free(struct reply_frame *frame)
{
    resp_buffer_fini(&frame->bytes);
    free(frame);
}

static struct reply_frame *frame_take(struct reply_queue *q)
{
    struct reply_frame *frame = q->first;

    assert(frame != NULL);
    q->first = frame->next;
    if (q->first == NULL) {
        q->last = NULL;
    }
    assert(q->waiting_bytes >= frame->bytes.len);
    q->waiting_bytes -= frame->bytes.len;
    return frame;
}

void reply_queue_init(struct reply_queue *q)
{
    *q = (struct reply_queue){.peer = 0};
    resp_buffer_init(&q->bytes);
}

static void waiting_free(struct reply_queue *q)
{
    while (q->first != NULL) {
        frame_free(frame_take(q));
    }
}

void reply_queue_fini(struct reply_queue *q)
{
    waiting_free(q);
    resp_buffer_fini(&q->bytes);
}

void reply_queue_drop(struct reply_queue *q)
{
    waiting_free(q);
    q->lost = false;
}

bool reply_queue_waits(const struct reply_queue *q)
{
    return q->first != NULL;
}

bool reply_queue_full(const struct reply_queue *q)
{
    return q->waiting_bytes + q->bytes.len >= FULL_BYTES;
}

static bool link_takes(const struct executor *ex, const struct reply_queue *q, size_t len)
{
    const uint64_t queued = ex->config.link_bytes != NULL ? ex->config.link_bytes(ex->config.ctx, q->peer) : 0;

    return queued == 0 || (queued < LINK_BYTES && len <= SHARING_BYTES_MAX);
}

/* The frame that fills waits behind the others. False: it is lost. The first always finds room. */
static bool waiting_add(struct executor *ex, struct reply_queue *q)
{
    const uint64_t max = ex->config.replies_bytes_max != 0 ? ex->config.replies_bytes_max : REPLIES_BYTES_DEFAULT;
    struct reply_frame *frame = NULL;

    if (q->first == NULL || q->waiting_bytes + q->bytes.len <= max) {
        frame = malloc(sizeof *frame);
    }
    if (frame == NULL) {
        return false;
    }
    *frame = (struct reply_frame){.bytes = q->bytes, .count = q->count};
    resp_buffer_init(&q->bytes);
    *(q->last == NULL ? &q->first : &q->last->next) = frame;
    q->last = frame;
    q->waiting_bytes += frame->bytes.len;
    return true;
}

static bool waiting_send(struct executor *ex, struct reply_queue *q)
{
    while (q->first != NULL && link_takes(ex, q, q->first->bytes.len)) {
        struct reply_frame *frame = frame_take(q);
        const bool sent = exec_send_frame(ex, q->peer, FORWARD_REPLY, 0, frame->count, &frame->bytes);
        frame_free(frame);
        if (!sent) {
            return false;
        }
    }
    return true;
}

/* False: it is lost. */
static bool frame_send(struct executor *ex, struct reply_queue *q)
{
    if (q->bytes.failed) {
        return false;
    }
    if (q->first == NULL && link_takes(ex, q, q->bytes.len)) {
        return exec_send_frame(ex, q->peer, FORWARD_REPLY, 0, q->count, &q->bytes);
    }
    return waiting_add(ex, q);
}

void reply_queue_flush(struct executor *ex, struct reply_queue *q)
{
    if (!waiting_send(ex, q)) {
        waiting_free(q);
        q->lost = true;
    }
    if (q->lost && q->first == NULL) { /* behind what was complete before the loss */
        q->lost = !exec_send_frame(ex, q->peer, FORWARD_RESET, 0, 0, NULL);
    }
    if (q->count > 0) {
        q->lost = q->lost || !frame_send(ex, q);
    }
    q->count = 0;
    resp_buffer_clear(&q->bytes);
}
