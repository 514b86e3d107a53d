#include "net/resp.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What a cleared buffer keeps. */
#define KEEP_BYTES_MAX (16u * 1024)
#define FIRST_BYTES 512u

void resp_buffer_init(struct resp_buffer *b)
{
    memset(b, 0, sizeof(*b));
}

void resp_buffer_fini(struct resp_buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}

char *resp_buffer_grow(struct resp_buffer *b, size_t len)
{
    assert(b->len <= b->capacity);
    if (b->failed || len > SIZE_MAX / 4 - b->len) {
        b->failed = true;
        return NULL;
    }
    if (b->capacity - b->len >= len)
        return b->data + b->len;
    size_t capacity = b->capacity < FIRST_BYTES ? FIRST_BYTES : b->capacity;
    while (capacity < b->len + len)
        capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (data == NULL) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->capacity = capacity;
    return data + b->len;
}

void resp_buffer_append(struct resp_buffer *b, const void *data, size_t len)
{
    if (len == 0)
        return;
    char *to = resp_buffer_reserve(b, len);
    if (to == NULL)
        return;
    memcpy(to, data, len);
    b->len += len;
}

void resp_buffer_clear(struct resp_buffer *b)
{
    if (b->capacity > KEEP_BYTES_MAX) {
        resp_buffer_fini(b);
        return;
    }
    b->len = 0;
    b->failed = false;
}
