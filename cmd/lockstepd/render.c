#include "cmd/lockstepd/render.h"

static struct render *render_of(struct store_reply *r)
{
    return (struct render *)r;
}

static void render_status(struct store_reply *r, const char *text)
{
    resp_write_status(render_of(r)->out, text);
}

static void render_error(struct store_reply *r, const char *text, size_t len)
{
    resp_write_error(render_of(r)->out, text, len);
}

static void render_integer(struct store_reply *r, int64_t value)
{
    resp_write_integer(render_of(r)->out, value);
}

static void render_bulk(struct store_reply *r, const void *data, size_t len)
{
    resp_write_bulk(render_of(r)->out, data, len);
}

static void render_null(struct store_reply *r)
{
    resp_write_null(render_of(r)->out, render_of(r)->proto);
}

static void render_null_array(struct store_reply *r)
{
    resp_write_null_array(render_of(r)->out, render_of(r)->proto);
}

static void render_array(struct store_reply *r, size_t n)
{
    resp_write_array(render_of(r)->out, n);
}

static void render_map(struct store_reply *r, size_t n)
{
    resp_write_map(render_of(r)->out, render_of(r)->proto, n);
}

static void render_set(struct store_reply *r, size_t n)
{
    resp_write_set(render_of(r)->out, render_of(r)->proto, n);
}

static void render_real(struct store_reply *r, double value)
{
    resp_write_real(render_of(r)->out, render_of(r)->proto, value);
}

static const struct store_reply_ops render_ops = {
    .status = render_status,
    .error = render_error,
    .integer = render_integer,
    .bulk = render_bulk,
    .null = render_null,
    .null_array = render_null_array,
    .array = render_array,
    .map = render_map,
    .set = render_set,
    .real = render_real,
};

void render_init(struct render *render, struct resp_buffer *out, int proto)
{
    render->reply.ops = &render_ops;
    render->out = out;
    render->proto = proto;
}
