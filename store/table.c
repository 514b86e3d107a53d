#include "store/table.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CHUNK_SEGMENTS 256u
/* Keys per segment on average; one that is due to be split holds twice as many, in slots that still fit a small block.
 * More makes a split longer, fewer makes more descriptors. */
#define SEGMENT_KEYS 192u
#define SEGMENT_CAPACITY_MIN 15u
#define CAPACITY_UNIT 16u
/* A segment grows when more than this of 256 of its slots are used, to where GROWN of 256 are; it shrinks below SPARSE.
 */
#define FILL_MAX 236u
#define FILL_GROWN 224u
#define FILL_SPARSE 176u
#define POINTER_MASK ((UINT64_C(1) << 48) - 1)
/* Cursors are the upper 48 bits of a point, so that clients which read them as signed numbers can. */
#define CURSOR_SHIFT 16u
/* Keys fetched ahead while a segment is split. */
#define SPLIT_AHEAD 12u
#define DEPTH_MAX (48u - 16u - 1u)
/* Keys fetched ahead of table_walk. */
#define WALK_AHEAD 12u
/* So that a capacity fits its 16 bits. */
#define SEGMENT_KEYS_MAX 50000u

/* --- Points and places -------------------------------------------------------------------------------------------- */

static inline uint64_t reverse64(uint64_t v)
{
    v = (v >> 1 & UINT64_C(0x5555555555555555)) | (v & UINT64_C(0x5555555555555555)) << 1;
    v = (v >> 2 & UINT64_C(0x3333333333333333)) | (v & UINT64_C(0x3333333333333333)) << 2;
    v = (v >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (v & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    return __builtin_bswap64(v);
}

uint64_t table_hash(const struct table *table, const void *name, size_t len)
{
    return XXH3_64bits_withSeed(name, len, table->seed);
}

static inline struct segment *segment_at(const struct table *table, uint32_t i)
{
    return &table->chunks[i / CHUNK_SEGMENTS][i % CHUNK_SEGMENTS];
}

/* How many low bits of the hash say that it belongs to segment i. */
static inline unsigned segment_depth(const struct table *table, uint32_t i)
{
    uint32_t half = UINT32_C(1) << table->depth;
    return table->depth + (i >= half || i < table->n_segments - half ? 1u : 0u);
}

static inline uint32_t segment_of(const struct table *table, uint64_t hash)
{
    uint32_t half = UINT32_C(1) << table->depth;
    uint32_t i = (uint32_t)hash & (2 * half - 1);
    return i < table->n_segments ? i : i & (half - 1);
}

static inline unsigned tag_of(uint64_t hash, unsigned depth)
{
    uint32_t v = (uint32_t)(hash >> depth) & 0xffffu;
    v = (v >> 1 & 0x5555u) | (v & 0x5555u) << 1;
    v = (v >> 2 & 0x3333u) | (v & 0x3333u) << 2;
    v = (v >> 4 & 0x0f0fu) | (v & 0x0f0fu) << 4;
    return (v >> 8 | v << 8) & 0xffffu;
}

static inline uint64_t slot_make(const struct key *key, unsigned tag)
{
    uint64_t address = (uint64_t)(uintptr_t)key;
    assert((address & ~POINTER_MASK) == 0);
    return address | (uint64_t)tag << 48;
}

static inline struct key *slot_key(uint64_t slot)
{
    return (struct key *)(uintptr_t)(slot & POINTER_MASK);
}

static inline unsigned slot_tag(uint64_t slot)
{
    return (unsigned)(slot >> 48);
}

/* Where a tag's run begins; grows with the tag. */
static inline unsigned home_of(unsigned tag, unsigned capacity)
{
    return tag * capacity >> 16;
}

/* How far the slot at `place` is from where it would like to be. */
static inline unsigned slot_distance(uint64_t slot, unsigned place, unsigned capacity)
{
    unsigned home = home_of(slot_tag(slot), capacity);
    return place >= home ? place - home : place + capacity - home;
}

/* --- Segments ----------------------------------------------------------------------------------------------------- */

static unsigned capacity_for(unsigned n, unsigned fill)
{
    unsigned slots = (n * 256 + fill - 1) / fill;
    /* With the word before them they fill a multiple of the unit. */
    unsigned words = (slots + 1 + CAPACITY_UNIT - 1) / CAPACITY_UNIT * CAPACITY_UNIT;
    return words - 1 < SEGMENT_CAPACITY_MIN ? SEGMENT_CAPACITY_MIN : words - 1;
}

static size_t block_bytes(const struct segment *segment)
{
    return (segment->capacity + 1u) * sizeof *segment->slots;
}

static void segment_open(struct table *table, uint32_t i, unsigned capacity)
{
    assert(capacity < UINT16_MAX);
    struct segment *segment = segment_at(table, i);
    segment->capacity = (uint16_t)capacity;
    segment->n = 0;
    size_t bytes = block_bytes(segment);
    uint64_t *block = memory_alloc(table->memory, MEMORY_SLOTS, bytes);
    memset(block, 0, bytes);
    block[0] = i;
    segment->slots = block + 1;
    table->slot_bytes += bytes;
}

/* `segment` is a copy of one that was opened anew, or is not used any more. */
static void segment_close(struct table *table, const struct segment *segment)
{
    size_t bytes = block_bytes(segment);
    memory_release(table->memory, MEMORY_SLOTS, segment->slots - 1, bytes);
    table->slot_bytes -= bytes;
}

void table_slots_moved(struct table *table, void *block)
{
    uint64_t *words = block;
    struct segment *segment = segment_at(table, (uint32_t)words[0]);
    segment->slots = words + 1;
}

/* Slots of a run lie in the order of their tags. There must be room. */
static void segment_put(struct segment *segment, uint64_t slot)
{
    unsigned capacity = segment->capacity;
    assert(segment->n < capacity);
    unsigned tag = slot_tag(slot);
    unsigned place = home_of(tag, capacity);
    unsigned distance = 0;
    while (segment->slots[place] != 0) {
        unsigned other = slot_distance(segment->slots[place], place, capacity);
        if (other < distance || (other == distance && slot_tag(segment->slots[place]) > tag)) {
            break;
        }
        distance++;
        place = place + 1 == capacity ? 0 : place + 1;
    }
    segment->n++;
    unsigned end = place;
    while (end < capacity && segment->slots[end] != 0) {
        end++;
    }
    if (end < capacity) {
        memmove(&segment->slots[place + 1], &segment->slots[place], (end - place) * sizeof slot);
        segment->slots[place] = slot;
        return;
    }
    /* The run goes on at the front: everything moves up by one there too. */
    unsigned wrapped = 0;
    while (segment->slots[wrapped] != 0) {
        wrapped++;
    }
    memmove(&segment->slots[1], &segment->slots[0], wrapped * sizeof slot);
    segment->slots[0] = segment->slots[capacity - 1];
    memmove(&segment->slots[place + 1], &segment->slots[place], (capacity - 1 - place) * sizeof slot);
    segment->slots[place] = slot;
}

static void segment_cut(struct segment *segment, unsigned place)
{
    unsigned capacity = segment->capacity;
    segment->n--;
    for (;;) {
        unsigned next = place + 1 == capacity ? 0 : place + 1;
        uint64_t slot = segment->slots[next];
        if (slot == 0 || slot_distance(slot, next, capacity) == 0) {
            segment->slots[place] = 0;
            return;
        }
        segment->slots[place] = slot;
        place = next;
    }
}

/* How many slots at the front belong to the run that begins before the end; they have the greatest tags. */
static unsigned segment_wrapped(const struct segment *segment)
{
    unsigned n = 0;
    while (segment->slots[n] != 0 && home_of(slot_tag(segment->slots[n]), segment->capacity) > n) {
        n++;
    }
    return n;
}

/* Fills an empty segment with slots that come (mostly) in the order of their tags. */
struct filler {
    struct segment *segment;
    unsigned next; /* the first place after what was filled */
    unsigned last; /* the greatest tag so far */
};

static void filler_put(struct filler *filler, uint64_t slot)
{
    struct segment *segment = filler->segment;
    unsigned tag = slot_tag(slot);
    unsigned home = home_of(tag, segment->capacity);
    unsigned place = home > filler->next ? home : filler->next;
    if (tag < filler->last || place >= segment->capacity) {
        segment_put(segment, slot);
        /* It may have moved others up. */
        while (filler->next < segment->capacity && segment->slots[filler->next] != 0) {
            filler->next++;
        }
        return;
    }
    segment->slots[place] = slot;
    segment->n++;
    filler->next = place + 1;
    filler->last = tag;
}

static void segment_resize(struct table *table, uint32_t index, unsigned capacity)
{
    struct segment *segment = segment_at(table, index);
    struct segment old = *segment;
    unsigned wrapped = segment_wrapped(&old);
    segment_open(table, index, capacity);
    struct filler filler = {.segment = segment};
    for (unsigned i = wrapped; i < old.capacity; i++) {
        if (old.slots[i] != 0) {
            filler_put(&filler, old.slots[i]);
        }
    }
    for (unsigned i = 0; i < wrapped; i++) {
        filler_put(&filler, old.slots[i]);
    }
    segment_close(table, &old);
}

static void segment_add(struct table *table, uint32_t index, uint64_t slot)
{
    struct segment *segment = segment_at(table, index);
    if ((segment->n + 1u) * 256 > segment->capacity * FILL_MAX) {
        segment_resize(table, index, capacity_for(segment->n + 1u, FILL_GROWN));
    }
    segment_put(segment, slot);
}

/* The place of a key that is there. */
static unsigned segment_place(const struct segment *segment, unsigned tag, const struct key *key)
{
    unsigned place = home_of(tag, segment->capacity);
    uint64_t slot = slot_make(key, tag);
    while (segment->slots[place] != slot) {
        assert(segment->slots[place] != 0);
        place = place + 1 == segment->capacity ? 0 : place + 1;
    }
    return place;
}

/* --- Growing and shrinking ---------------------------------------------------------------------------------------- */

static void table_push_segment(struct table *table)
{
    if (table->n_segments % CHUNK_SEGMENTS == 0 && table->n_segments / CHUNK_SEGMENTS == table->n_chunks) {
        if (table->n_chunks == table->chunks_capacity) {
            table->chunks_capacity = table->chunks_capacity == 0 ? 4 : 2 * table->chunks_capacity;
            table->chunks = realloc(table->chunks, table->chunks_capacity * sizeof *table->chunks);
            if (table->chunks == NULL) {
                abort();
            }
        }
        table->chunks[table->n_chunks++] =
            memory_alloc(table->memory, MEMORY_FIXED, CHUNK_SEGMENTS * sizeof(struct segment));
    }
    table->n_segments++;
    if (table->n_segments >= UINT32_C(2) << table->depth) {
        table->depth++;
        assert(table->depth <= DEPTH_MAX);
    }
}

/* Slots that the next bit of the hash sends to the other segment. */
static unsigned segment_count_upper(const struct segment *segment)
{
    unsigned n = 0;
    for (unsigned i = 0; i < segment->capacity; i++) {
        n += (unsigned)(segment->slots[i] >> 63);
    }
    return n;
}

static void table_split(struct table *table)
{
    uint32_t low = table->n_segments - (UINT32_C(1) << table->depth);
    uint32_t high = table->n_segments;
    unsigned depth = table->depth + 1;
    table_push_segment(table);
    struct segment *segment = segment_at(table, low);
    struct segment *other = segment_at(table, high);
    struct segment old = *segment;
    unsigned upper = segment_count_upper(&old);
    segment_open(table, low, capacity_for(old.n - upper, FILL_GROWN));
    segment_open(table, high, capacity_for(upper, FILL_GROWN));
    struct filler fillers[2] = {{.segment = segment}, {.segment = other}};
    unsigned wrapped = segment_wrapped(&old);
    for (unsigned i = 0; i < old.capacity; i++) {
        unsigned place = i + wrapped < old.capacity ? i + wrapped : i + wrapped - old.capacity;
        unsigned ahead = place + SPLIT_AHEAD < old.capacity ? place + SPLIT_AHEAD : 0;
        /* Empty slots are the null address, whose prefetch does nothing. */
        __builtin_prefetch(slot_key(old.slots[ahead]));
        struct key *key = slot_key(old.slots[place]);
        if (key == NULL) {
            continue;
        }
        struct iovec name = key_name(key);
        uint64_t hash = table_hash(table, name.iov_base, name.iov_len);
        filler_put(&fillers[hash >> (depth - 1) & 1], slot_make(key, tag_of(hash, depth)));
    }
    segment_close(table, &old);
}

/* Undo the last split. Tags lose their lowest bit and gain the one by which the segments differ. */
static void table_merge(struct table *table)
{
    uint32_t high = table->n_segments - 1;
    if (high < UINT32_C(1) << table->depth) {
        table->depth--;
    }
    uint32_t low = high - (UINT32_C(1) << table->depth);
    table->n_segments--;
    struct segment *segment = segment_at(table, low);
    struct segment halves[2] = {*segment, *segment_at(table, high)};
    segment_open(table, low, capacity_for((unsigned)halves[0].n + halves[1].n, FILL_GROWN));
    struct filler filler = {.segment = segment};
    for (unsigned h = 0; h < 2; h++) {
        unsigned capacity = halves[h].capacity;
        unsigned wrapped = segment_wrapped(&halves[h]);
        for (unsigned i = 0; i < capacity; i++) {
            uint64_t slot = halves[h].slots[i + wrapped < capacity ? i + wrapped : i + wrapped - capacity];
            if (slot != 0) {
                filler_put(&filler, slot_make(slot_key(slot), slot_tag(slot) >> 1 | h << 15));
            }
        }
        segment_close(table, &halves[h]);
    }
}

/* --- All ---------------------------------------------------------------------------------------------------------- */

void table_init(struct table *table, struct memory *memory, uint64_t seed)
{
    *table = (struct table){.memory = memory, .seed = seed};
    table_push_segment(table);
    table->depth = 0;
    segment_open(table, 0, SEGMENT_CAPACITY_MIN);
}

void table_reserve(struct table *table, uint64_t n_keys)
{
    assert(table->n_keys == 0);
    assert(table->n_segments == 1);
    uint64_t n_segments = (n_keys + SEGMENT_KEYS - 1) / SEGMENT_KEYS;
    if (n_segments <= 1) {
        return;
    }
    struct segment first = *segment_at(table, 0);
    segment_close(table, &first);
    while (table->n_segments < n_segments) {
        table_push_segment(table);
    }
    for (uint32_t i = 0; i < table->n_segments; i++) {
        /* Those that get more than their share will grow, the others must not be too empty. */
        unsigned expected = (unsigned)(n_keys >> segment_depth(table, i)) + 1;
        segment_open(table, i, capacity_for(expected, FILL_MAX));
    }
}

bool table_has_room(const struct table *table, uint64_t hash)
{
    return segment_at(table, segment_of(table, hash))->n < SEGMENT_KEYS_MAX;
}

void table_fini(struct table *table)
{
    free(table->chunks);
    table->chunks = NULL;
}

struct key *table_find(const struct table *table, uint64_t hash, const void *name, size_t len)
{
    uint32_t i = segment_of(table, hash);
    const struct segment *segment = segment_at(table, i);
    unsigned tag = tag_of(hash, segment_depth(table, i));
    unsigned capacity = segment->capacity;
    unsigned place = home_of(tag, capacity);
    for (unsigned distance = 0;; distance++) {
        uint64_t slot = segment->slots[place];
        if (slot == 0) {
            return NULL;
        }
        if (slot_tag(slot) == tag) {
            struct key *key = slot_key(slot);
            if (key_name_is(key, name, len)) {
                return key;
            }
        } else if (slot_distance(slot, place, capacity) < distance) {
            return NULL;
        }
        place = place + 1 == capacity ? 0 : place + 1;
    }
}

void table_prefetch_slots(const struct table *table, uint64_t hash)
{
    uint32_t i = segment_of(table, hash);
    const struct segment *segment = segment_at(table, i);
    unsigned tag = tag_of(hash, segment_depth(table, i));
    __builtin_prefetch(&segment->slots[home_of(tag, segment->capacity)]);
}

void table_prefetch_key(const struct table *table, uint64_t hash)
{
    uint32_t i = segment_of(table, hash);
    const struct segment *segment = segment_at(table, i);
    unsigned tag = tag_of(hash, segment_depth(table, i));
    unsigned place = home_of(tag, segment->capacity);
    for (uint64_t slot; (slot = segment->slots[place]) != 0;) {
        if (slot_tag(slot) == tag) {
            const char *key = (const char *)slot_key(slot);
            __builtin_prefetch(key);
            __builtin_prefetch(key + 64);
            return;
        }
        if (slot_distance(slot, place, segment->capacity) == 0 && slot_tag(slot) > tag) {
            return;
        }
        place = place + 1 == segment->capacity ? 0 : place + 1;
    }
}

void table_insert(struct table *table, uint64_t hash, struct key *key)
{
    uint32_t i = segment_of(table, hash);
    segment_add(table, i, slot_make(key, tag_of(hash, segment_depth(table, i))));
    table->n_keys++;
    if (table->n_keys > (uint64_t)table->n_segments * SEGMENT_KEYS) {
        table_split(table);
    }
}

void table_replace(struct table *table, uint64_t hash, const struct key *old, struct key *key)
{
    uint32_t i = segment_of(table, hash);
    struct segment *segment = segment_at(table, i);
    unsigned tag = tag_of(hash, segment_depth(table, i));
    segment->slots[segment_place(segment, tag, old)] = slot_make(key, tag);
}

void table_remove(struct table *table, uint64_t hash, const struct key *key)
{
    uint32_t i = segment_of(table, hash);
    struct segment *segment = segment_at(table, i);
    unsigned tag = tag_of(hash, segment_depth(table, i));
    segment_cut(segment, segment_place(segment, tag, key));
    assert(table->n_keys > 0);
    table->n_keys--;
    if (segment->capacity > SEGMENT_CAPACITY_MIN && segment->n * 256u < segment->capacity * FILL_SPARSE) {
        unsigned capacity = capacity_for(segment->n, FILL_GROWN);
        if (capacity < segment->capacity) {
            segment_resize(table, i, capacity);
        }
    }
    /* Half of what splits, so that a table at its edge doesn't split and merge in turn. */
    if (table->n_segments > 1 && table->n_keys < (uint64_t)table->n_segments * SEGMENT_KEYS / 2) {
        table_merge(table);
    }
}

/* Visit the slots of the first tag from `from` on; gives that tag, or 0x10000 if there is none. */
static unsigned segment_scan(const struct segment *segment, unsigned from, void (*each)(void *ctx, struct key *key),
                             void *ctx)
{
    unsigned capacity = segment->capacity;
    unsigned found = 0x10000;
    /* Past the end, the front holds the rest of the last run, which has the greatest tags. */
    for (unsigned at = home_of(from, capacity); at < 2 * capacity; at++) {
        unsigned place = at < capacity ? at : at - capacity;
        uint64_t slot = segment->slots[place];
        bool wrapped = slot != 0 && home_of(slot_tag(slot), capacity) > place;
        if (at >= capacity && !wrapped) {
            break;
        }
        if (slot == 0 || (at < capacity && wrapped) || slot_tag(slot) < from) {
            continue;
        }
        if (found != 0x10000 && slot_tag(slot) != found) {
            break;
        }
        found = slot_tag(slot);
        each(ctx, slot_key(slot));
    }
    return found;
}

uint64_t table_scan(const struct table *table, uint64_t cursor, void (*each)(void *ctx, struct key *key), void *ctx)
{
    uint64_t point = cursor << CURSOR_SHIFT;
    uint32_t i = segment_of(table, reverse64(point));
    unsigned depth = segment_depth(table, i);
    unsigned from = (unsigned)((depth == 0 ? point : point << depth) >> 48);
    unsigned tag = segment_scan(segment_at(table, i), from, each, ctx);
    /* The next point: the next tag, or the next segment. Wraps to 0 after the last. */
    uint64_t begin = depth == 0 ? 0 : point >> (64 - depth) << (64 - depth);
    uint64_t next = begin + (((uint64_t)(tag == 0x10000 ? 0xffff : tag) + 1) << (48 - depth));
    return next >> CURSOR_SHIFT;
}

uint64_t table_cursor(uint64_t hash)
{
    return reverse64(hash) >> CURSOR_SHIFT;
}

static bool key_is_before(const struct table *table, const struct key *key, uint64_t cursor)
{
    struct iovec name = key_name(key);
    return table_cursor(table_hash(table, name.iov_base, name.iov_len)) < cursor;
}

uint64_t table_walk(const struct table *table, uint64_t cursor, bool (*each)(void *ctx, struct key *key), void *ctx)
{
    assert(cursor < TABLE_CURSOR_END);
    uint64_t point = cursor << CURSOR_SHIFT;
    uint32_t i = segment_of(table, reverse64(point));
    unsigned depth = segment_depth(table, i);
    const struct segment *segment = segment_at(table, i);
    unsigned capacity = segment->capacity;
    uint64_t in_segment = point << depth;
    unsigned from = (unsigned)(in_segment >> 48);
    /* A cursor from a time when the table was larger may lie within what has become one tag. */
    bool splits_tag = in_segment << 16 != 0;
    unsigned tag = 0xffff;
    bool enough = false;
    /* Past the end, the front holds the rest of the last run, which has the greatest tags. */
    for (unsigned at = home_of(from, capacity); at < 2 * capacity; at++) {
        unsigned place = at < capacity ? at : at - capacity;
        uint64_t slot = segment->slots[place];
        bool wrapped = slot != 0 && home_of(slot_tag(slot), capacity) > place;
        if (at >= capacity && !wrapped) {
            break;
        }
        if (place + WALK_AHEAD < capacity) {
            /* Empty slots are the null address, whose prefetch does nothing. */
            uintptr_t ahead = (uintptr_t)slot_key(segment->slots[place + WALK_AHEAD]);
            __builtin_prefetch((const void *)ahead);
            __builtin_prefetch((const void *)(ahead + 64));
        }
        if (slot == 0 || (at < capacity && wrapped) || slot_tag(slot) < from) {
            continue;
        }
        if (enough && slot_tag(slot) != tag) {
            break;
        }
        tag = slot_tag(slot);
        if (!(splits_tag && tag == from && key_is_before(table, slot_key(slot), cursor))) {
            enough = !each(ctx, slot_key(slot)) || enough;
        }
    }
    unsigned done = enough ? tag : 0xffff;
    uint64_t begin = depth == 0 ? 0 : point >> (64 - depth) << (64 - depth);
    uint64_t next = (begin + (((uint64_t)done + 1) << (48 - depth))) >> CURSOR_SHIFT;
    return next == 0 ? TABLE_CURSOR_END : next;
}

struct key *table_pick(const struct table *table, uint64_t random)
{
    const struct segment *segment = segment_at(table, (uint32_t)((random & UINT32_MAX) * table->n_segments >> 32));
    return slot_key(segment->slots[(random >> 32) * segment->capacity >> 32]);
}

size_t table_bytes(const struct table *table)
{
    return table->slot_bytes + table->n_chunks * CHUNK_SEGMENTS * sizeof(struct segment) +
           table->chunks_capacity * sizeof *table->chunks;
}
