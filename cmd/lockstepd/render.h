/* Renders what the store replies (store_reply_ops) as RESP bytes of one protocol version into a buffer. */
#ifndef LOCKSTEP_RENDER_H
#define LOCKSTEP_RENDER_H

#include "net/resp.h"
#include "store/store.h"

struct render {
    struct store_reply reply; /* first: &render.reply is the sink */
    struct resp_buffer *out;  /* borrowed */
    int proto;                /* 2 or 3 */
};
void render_init(struct render *render, struct resp_buffer *out, int proto);

#endif
