/* A region is REGION_BYTES of address space, aligned to its size, cut into pages. A page serves blocks of one size
 * class, first by moving a mark, then from a list threaded through freed blocks. A page whose blocks are all free can
 * serve any class. Descriptions of the pages stand together at the region's start, so that blocks carry no header and
 * pages have no slack for one; a block finds its page by masking its address.
 *
 * Classes are 2 bytes apart up to 64 bytes, then 32 per doubling (3 % apart at most): with tens of millions of blocks,
 * rounding is the overhead that matters, and pages that few blocks share cost little, because the system gives them
 * memory only as the mark moves. */
#include "store/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(address, len) ASAN_POISON_MEMORY_REGION(address, len)
#define UNPOISON(address, len) ASAN_UNPOISON_MEMORY_REGION(address, len)
#else
#define POISON(address, len) ((void)(address), (void)(len))
#define UNPOISON(address, len) ((void)(address), (void)(len))
#endif

#define PAGE_BYTES ((size_t)64 * 1024)
#define REGION_PAGES 64u
#define REGION_BYTES (PAGE_BYTES * REGION_PAGES)
#define FINE_MAX 64u /* classes of 2 bytes up to here */
#define FINE_MIN 16u
#define N_FINE ((FINE_MAX - FINE_MIN) / 2 + 1)
#define N_CLASSES (N_FINE + 6 * 32)
/* Above this a large block is mapped by itself, so that it can be given back in pieces. */
#define MAPPED_MIN ((size_t)256 * 1024)
/* Free pages that keep their memory, so that a class at a page boundary doesn't fault it in and out. */
#define FREE_PAGES_RESIDENT 16u

/* A class is sparse when its free blocks are more than this part of those in use, and more than a page or two. Slots
 * are moved at little cost, and all segments outgrow a class at about the same time. */
#define SPARSE_KEYS 4u
#define SPARSE_SLOTS 16u
/* Moves that one released block pays for, and the most that one call makes. */
#define MOVES_PER_RELEASE 2u
#define MOVES_MAX 8u

static_assert((MEMORY_SMALL_MAX >> 6) == FINE_MAX, "six doublings of classes");

/* Circular, with a sentinel: lists of any length are joined in one step. */
struct link {
    struct link *next, *prev;
};

struct page {
    struct page *next, *prev; /* in the list of its class, while it has a free block */
    uint32_t mark;            /* offset in the page of what was never handed out */
    uint16_t free;            /* offset + 1 of the first freed block, 0: none */
    uint16_t used;            /* blocks in use; 0: the page is free */
    uint16_t class;           /* with the kind, see `class_of_kind` */
    bool listed;
};

/* The blocks of one kind and size. */
struct class
{
    struct page *partial; /* pages with a free block */
    uint32_t pages;
    uint32_t used; /* blocks */
};

struct region {
    struct link link;    /* first: a link is its region */
    uint64_t free_pages; /* bit mask */
    struct page pages[REGION_PAGES];
};
static_assert(REGION_PAGES == 64, "a region's free pages are one bit mask");
static_assert(sizeof(struct region) < PAGE_BYTES, "page 0 begins with the region's description");

struct large {
    struct link link; /* first: a link is its block */
    size_t bytes;     /* with this header */
    size_t pad;       /* blocks stay aligned as malloc's */
};

struct memory {
    struct class classes[MEMORY_KINDS * N_CLASSES];
    /* The page that is being emptied, unlisted; its free blocks are in a bit mask instead of its list. */
    struct page *victim;
    uint32_t victim_next; /* the first block not looked at */
    uint32_t moves_owed;
    uint64_t victim_free[PAGE_BYTES / FINE_MIN / 64];
    struct link open;       /* regions with a free page */
    struct link full;       /* regions without */
    struct link dead;       /* discarded regions: for reuse, or to be given back */
    struct link large;      /* live large blocks */
    struct link dead_large; /* to be given back */
    uint8_t *shrinking;     /* what is being given back piece by piece, its end first */
    size_t shrinking_bytes;
    size_t n_free_pages, n_regions;
    size_t large_bytes;
};

static void out_of_memory(size_t size)
{
    fprintf(stderr, "store: out of memory allocating %zu bytes; lower maxmemory or add memory\n", size);
    abort();
}

static void list_init(struct link *list)
{
    list->next = list;
    list->prev = list;
}

static bool list_empty(const struct link *list)
{
    return list->next == list;
}

static void list_add(struct link *list, struct link *link)
{
    link->prev = list;
    link->next = list->next;
    list->next->prev = link;
    list->next = link;
}

static void list_remove(struct link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
}

/* Moves all of `from` to `to`. */
static void list_join(struct link *to, struct link *from)
{
    if (list_empty(from)) {
        return;
    }
    from->prev->next = to->next;
    to->next->prev = from->prev;
    to->next = from->next;
    from->next->prev = to;
    list_init(from);
}

struct memory *memory_new(void)
{
    struct memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) {
        out_of_memory(sizeof *memory);
    }
    list_init(&memory->open);
    list_init(&memory->full);
    list_init(&memory->dead);
    list_init(&memory->large);
    list_init(&memory->dead_large);
    return memory;
}

static void *map(size_t bytes)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
        out_of_memory(bytes);
    }
    return address;
}

static void unmap(void *address, size_t bytes)
{
    UNPOISON(address, bytes);
    int rc = munmap(address, bytes);
    assert(rc == 0);
    (void)rc;
}

/* --- Classes ------------------------------------------------------------------------------------------------------ */

static unsigned class_of(size_t size)
{
    if (size <= FINE_MAX) {
        return size <= FINE_MIN ? 0 : (unsigned)(size - FINE_MIN + 1) / 2;
    }
    /* The doubling that holds size - 1, and its step of 1/32 of the lower end. */
    unsigned log = 63u - (unsigned)__builtin_clzll((unsigned long long)(size - 1));
    unsigned step = (unsigned)((size - 1) >> (log - 5)) & 31u;
    return N_FINE + (log - 6) * 32 + step;
}

/* Classes of a kind follow those of the kind before. */
static unsigned class_of_kind(enum memory_kind kind, size_t size)
{
    return (unsigned)kind * N_CLASSES + class_of(size);
}

static size_t class_bytes(unsigned class)
{
    class %= N_CLASSES;
    if (class < N_FINE) {
        return FINE_MIN + 2 * (size_t) class;
    }
    unsigned log = 6 + (class - N_FINE) / 32;
    size_t step = (class - N_FINE) % 32;
    return ((size_t)33 + step) << (log - 5);
}

size_t memory_usable(size_t size)
{
    if (size <= MEMORY_SMALL_MAX) {
        return class_bytes(class_of(size));
    }
    size_t bytes = size + sizeof(struct large);
    size_t unit = 64;
    if (bytes >= MAPPED_MIN) {
        /* Room to grow in place costs address space only. */
        unit = (size_t)1 << (60u - (unsigned)__builtin_clzll((unsigned long long)bytes));
    }
    return (bytes + unit - 1) / unit * unit - sizeof(struct large);
}

/* --- Regions and pages -------------------------------------------------------------------------------------------- */

static struct region *region_map(void)
{
    /* Twice the size always holds an aligned region; the rest goes back. */
    uint8_t *address = map(2 * REGION_BYTES);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)address + REGION_BYTES - 1) & ~(uintptr_t)(REGION_BYTES - 1));
    size_t before = (size_t)(aligned - address);
    if (before > 0) {
        unmap(address, before);
    }
    unmap(aligned + REGION_BYTES, REGION_BYTES - before);
    return (struct region *)(void *)aligned;
}

static void region_open(struct memory *memory)
{
    struct region *region;
    if (!list_empty(&memory->dead)) {
        region = (struct region *)memory->dead.next;
        list_remove(&region->link);
        UNPOISON(region, REGION_BYTES);
    } else {
        region = region_map();
    }
    memset(region, 0, sizeof *region);
    region->free_pages = UINT64_MAX;
    list_add(&memory->open, &region->link);
    memory->n_free_pages += REGION_PAGES;
    memory->n_regions++;
}

static struct region *region_of(const void *block)
{
    return (struct region *)((uintptr_t)block & ~(uintptr_t)(REGION_BYTES - 1));
}

static uint8_t *page_address(const struct page *page)
{
    struct region *region = region_of(page);
    return (uint8_t *)region + (size_t)(page - region->pages) * PAGE_BYTES;
}

/* Offset of the first block: page 0 begins with the region's description. */
static uint32_t page_begin(const struct page *page)
{
    return page == region_of(page)->pages ? (uint32_t)((sizeof(struct region) + 63) & ~(size_t)63) : 0;
}

static uint32_t page_blocks(const struct page *page)
{
    return (uint32_t)((PAGE_BYTES - page_begin(page)) / class_bytes(page->class));
}

static void page_list(struct memory *memory, struct page *page)
{
    struct page **list = &memory->classes[page->class].partial;
    page->prev = NULL;
    page->next = *list;
    if (*list != NULL) {
        (*list)->prev = page;
    }
    *list = page;
    page->listed = true;
}

static void page_unlist(struct memory *memory, struct page *page)
{
    if (page->prev != NULL) {
        page->prev->next = page->next;
    } else {
        assert(memory->classes[page->class].partial == page);
        memory->classes[page->class].partial = page->next;
    }
    if (page->next != NULL) {
        page->next->prev = page->prev;
    }
    page->listed = false;
}

static struct page *page_take(struct memory *memory, unsigned class)
{
    if (list_empty(&memory->open)) {
        region_open(memory);
    }
    struct region *region = (struct region *)memory->open.next;
    assert(region->free_pages != 0);
    unsigned i = (unsigned)__builtin_ctzll(region->free_pages);
    region->free_pages &= region->free_pages - 1;
    memory->n_free_pages--;
    if (region->free_pages == 0) {
        list_remove(&region->link);
        list_add(&memory->full, &region->link);
    }
    struct page *page = &region->pages[i];
    assert(page->used == 0);
    assert(!page->listed);
    page->mark = page_begin(page);
    memory->classes[class].pages++;
    page->free = 0;
    page->class = (uint16_t) class;
    POISON(page_address(page) + page->mark, PAGE_BYTES - page->mark);
    page_list(memory, page);
    return page;
}

static void page_give(struct memory *memory, struct page *page)
{
    struct region *region = region_of(page);
    unsigned i = (unsigned)(page - region->pages);
    if (page->listed) {
        page_unlist(memory, page);
    }
    memory->classes[page->class].pages--;
    if (region->free_pages == 0) {
        list_remove(&region->link);
        list_add(&memory->open, &region->link);
    }
    region->free_pages |= (uint64_t)1 << i;
    memory->n_free_pages++;
    if (memory->n_free_pages > FREE_PAGES_RESIDENT && i != 0) {
        /* Failure only means that the memory stays. */
        (void)madvise(page_address(page), PAGE_BYTES, MADV_DONTNEED);
    }
    if (region->free_pages == UINT64_MAX && memory->n_free_pages > REGION_PAGES + FREE_PAGES_RESIDENT) {
        memory->n_free_pages -= REGION_PAGES;
        memory->n_regions--;
        list_remove(&region->link);
        list_add(&memory->dead, &region->link);
    }
}

/* --- Small blocks ------------------------------------------------------------------------------------------------- */

static void *small_alloc(struct memory *memory, unsigned class)
{
    struct page *page = memory->classes[class].partial;
    if (page == NULL) {
        page = page_take(memory, class);
    }
    size_t bytes = class_bytes(class);
    uint8_t *base = page_address(page);
    uint8_t *block;
    if (page->free != 0) {
        block = base + page->free - 1;
        UNPOISON(block, bytes);
        memcpy(&page->free, block, sizeof page->free);
    } else {
        block = base + page->mark;
        page->mark += (uint32_t)bytes;
        assert(page->mark <= PAGE_BYTES);
        UNPOISON(block, bytes);
    }
    page->used++;
    memory->classes[class].used++;
    if (page->free == 0 && page->mark + bytes > PAGE_BYTES) {
        page_unlist(memory, page);
    }
    return block;
}

static bool class_is_sparse(const struct memory *memory, unsigned class)
{
    if (class < N_CLASSES) {
        return false; /* MEMORY_FIXED */
    }
    const struct class *c = &memory->classes[class];
    uint32_t page = (uint32_t)(PAGE_BYTES / class_bytes(class));
    uint32_t blocks = c->pages * page;
    bool slots = class / N_CLASSES == MEMORY_SLOTS;
    uint32_t spare = slots ? page : 2 * page;
    return blocks > c->used + spare && blocks - c->used > c->used / (slots ? SPARSE_SLOTS : SPARSE_KEYS);
}

/* Choose the emptiest of the first pages of a sparse class, and take it out of use. */
static void victim_choose(struct memory *memory, unsigned class)
{
    struct page *victim = NULL;
    unsigned looked_at = 0;
    for (struct page *page = memory->classes[class].partial; page != NULL && looked_at < 8; page = page->next) {
        if (victim == NULL || page->used < victim->used) {
            victim = page;
        }
        looked_at++;
    }
    /* What is moved needs another page to go to, at best not a new one. */
    if (looked_at < 2) {
        return;
    }
    if (victim->used == 0) {
        page_give(memory, victim);
        return;
    }
    page_unlist(memory, victim);
    memory->victim = victim;
    memory->victim_next = 0;
    memset(memory->victim_free, 0, sizeof memory->victim_free);
    uint32_t begin = page_begin(victim);
    uint32_t bytes = (uint32_t)class_bytes(class);
    const uint8_t *base = page_address(victim);
    while (victim->free != 0) {
        uint32_t offset = victim->free - 1u;
        uint32_t i = (offset - begin) / bytes;
        memory->victim_free[i / 64] |= UINT64_C(1) << i % 64;
        UNPOISON(base + offset, sizeof victim->free);
        memcpy(&victim->free, base + offset, sizeof victim->free);
        POISON(base + offset, bytes);
    }
}

static void victim_release(struct memory *memory, uint32_t offset)
{
    struct page *page = memory->victim;
    uint32_t i = (offset - page_begin(page)) / (uint32_t)class_bytes(page->class);
    memory->victim_free[i / 64] |= UINT64_C(1) << i % 64;
    if (page->used == 0) {
        memory->victim = NULL;
        page_give(memory, page);
    }
}

static void small_release(struct memory *memory, void *block, unsigned class)
{
    struct region *region = region_of(block);
    size_t offset = (size_t)((uint8_t *)block - (uint8_t *)region);
    struct page *page = &region->pages[offset / PAGE_BYTES];
    assert(page->class == class);
    assert(page->used > 0);
    page->used--;
    memory->classes[class].used--;
    if (page == memory->victim) {
        POISON(block, class_bytes(class));
        victim_release(memory, (uint32_t)(offset % PAGE_BYTES));
        return;
    }
    memcpy(block, &page->free, sizeof page->free);
    POISON(block, class_bytes(class));
    page->free = (uint16_t)(offset % PAGE_BYTES + 1);
    if (!page->listed) {
        page_list(memory, page);
    }
    /* A class of keys keeps its last page; those of slots are many and come and go. */
    bool keeps = class / N_CLASSES != MEMORY_SLOTS && page->next == NULL && page->prev == NULL;
    if (page->used == 0 && !keeps) {
        page_give(memory, page);
    } else if (class_is_sparse(memory, class)) {
        memory->moves_owed += MOVES_PER_RELEASE;
        if (memory->victim == NULL) {
            victim_choose(memory, class);
        }
    }
}

/* Moves the next block out of the victim. */
static void victim_move(struct memory *memory, memory_move *move, void *ctx)
{
    struct page *page = memory->victim;
    uint32_t bytes = (uint32_t)class_bytes(page->class);
    uint32_t i = memory->victim_next;
    while (memory->victim_free[i / 64] >> i % 64 & 1) {
        i++;
    }
    assert(i < page_blocks(page));
    memory->victim_next = i + 1;
    uint8_t *from = page_address(page) + page_begin(page) + (size_t)i * bytes;
    unsigned class = page->class;
    move(ctx, (enum memory_kind)(class / N_CLASSES), small_alloc(memory, class), from, bytes);
    small_release(memory, from, class);
    /* On with the next page while the class has more to win. */
    if (memory->victim == NULL && class_is_sparse(memory, class)) {
        victim_choose(memory, class);
    }
}

void memory_tidy(struct memory *memory, memory_move *move, void *ctx)
{
    unsigned moves = memory->moves_owed < MOVES_MAX ? memory->moves_owed : MOVES_MAX;
    for (; moves > 0 && memory->victim != NULL; moves--) {
        memory->moves_owed--;
        victim_move(memory, move, ctx);
    }
    /* Debts are not piled up: a command that releases thousands of blocks does not slow down all later ones. */
    memory->moves_owed = memory->victim == NULL ? 0 : memory->moves_owed < 1024 ? memory->moves_owed : 1024;
}

/* --- Large blocks ------------------------------------------------------------------------------------------------- */

static void *large_alloc(struct memory *memory, size_t size)
{
    size_t bytes = memory_usable(size) + sizeof(struct large);
    struct large *large;
    if (bytes >= MAPPED_MIN) {
        /* What is taken is given back first, so that real memory can't run away from what is in use. */
        memory_step(memory, 2 * bytes);
        large = map(bytes);
    } else {
        large = malloc(bytes);
        if (large == NULL) {
            out_of_memory(bytes);
        }
    }
    large->bytes = bytes;
    list_add(&memory->large, &large->link);
    memory->large_bytes += bytes;
    return large + 1;
}

static void large_release(struct memory *memory, void *block)
{
    struct large *large = (struct large *)block - 1;
    list_remove(&large->link);
    memory->large_bytes -= large->bytes;
    if (large->bytes >= MAPPED_MIN) {
        list_add(&memory->dead_large, &large->link);
    } else {
        free(large);
    }
}

/* --- All ---------------------------------------------------------------------------------------------------------- */

void *memory_alloc(struct memory *memory, enum memory_kind kind, size_t size)
{
    assert(size > 0);
    return size <= MEMORY_SMALL_MAX ? small_alloc(memory, class_of_kind(kind, size)) : large_alloc(memory, size);
}

void memory_release(struct memory *memory, enum memory_kind kind, void *block, size_t size)
{
    if (size <= MEMORY_SMALL_MAX) {
        small_release(memory, block, class_of_kind(kind, size));
    } else {
        large_release(memory, block);
    }
}

void memory_release_later(struct memory *memory, void *block)
{
    struct large *large = (struct large *)block - 1;
    list_remove(&large->link);
    memory->large_bytes -= large->bytes;
    list_add(&memory->dead_large, &large->link);
}

/* To be called when the live blocks went elsewhere. */
static void forget_live(struct memory *memory)
{
    memset(memory->classes, 0, sizeof memory->classes);
    memory->victim = NULL;
    memory->moves_owed = 0;
    memory->n_regions = 0;
    memory->n_free_pages = 0;
    memory->large_bytes = 0;
}

void memory_discard(struct memory *memory)
{
    list_join(&memory->dead, &memory->open);
    list_join(&memory->dead, &memory->full);
    list_join(&memory->dead_large, &memory->large);
    forget_live(memory);
}

struct memory *memory_detach(struct memory *memory)
{
    struct memory *detached = memory_new();
    memcpy(detached->classes, memory->classes, sizeof detached->classes);
    memcpy(detached->victim_free, memory->victim_free, sizeof detached->victim_free);
    detached->victim = memory->victim;
    detached->victim_next = memory->victim_next;
    detached->moves_owed = memory->moves_owed;
    detached->n_regions = memory->n_regions;
    detached->n_free_pages = memory->n_free_pages;
    detached->large_bytes = memory->large_bytes;
    list_join(&detached->open, &memory->open);
    list_join(&detached->full, &memory->full);
    list_join(&detached->large, &memory->large);
    forget_live(memory);
    return detached;
}

void memory_absorb(struct memory *memory, struct memory *other)
{
    memory_discard(other);
    list_join(&memory->dead, &other->dead);
    list_join(&memory->dead_large, &other->dead_large);
    if (other->shrinking_bytes >= MAPPED_MIN) {
        /* Its beginning is still there: from here on it is a large block like others. */
        struct large *large = (struct large *)(void *)other->shrinking;
        large->bytes = other->shrinking_bytes;
        list_add(&memory->dead_large, &large->link);
    } else if (other->shrinking_bytes > 0) {
        unmap(other->shrinking, other->shrinking_bytes);
    }
    free(other);
}

/* Takes the next thing to give back; malloc'd blocks go at once. Returns the bytes given back. */
static size_t shrinking_next(struct memory *memory)
{
    if (!list_empty(&memory->dead_large)) {
        struct large *large = (struct large *)memory->dead_large.next;
        list_remove(&large->link);
        if (large->bytes < MAPPED_MIN) {
            size_t bytes = large->bytes;
            free(large);
            return bytes;
        }
        memory->shrinking = (uint8_t *)large;
        memory->shrinking_bytes = large->bytes;
    } else if (!list_empty(&memory->dead)) {
        struct region *region = (struct region *)memory->dead.next;
        UNPOISON(region, REGION_BYTES);
        list_remove(&region->link);
        memory->shrinking = (uint8_t *)region;
        memory->shrinking_bytes = REGION_BYTES;
    }
    return 0;
}

bool memory_step(struct memory *memory, size_t bytes)
{
    while (bytes > 0) {
        size_t given;
        if (memory->shrinking_bytes == 0) {
            given = shrinking_next(memory);
            if (given == 0 && memory->shrinking_bytes == 0) {
                return false;
            }
        } else {
            given = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
            given = given < memory->shrinking_bytes ? given : memory->shrinking_bytes;
            memory->shrinking_bytes -= given;
            unmap(memory->shrinking + memory->shrinking_bytes, given);
        }
        bytes -= given < bytes ? given : bytes;
    }
    return true;
}

void memory_free(struct memory *memory)
{
    if (memory == NULL) {
        return;
    }
    memory_discard(memory);
    while (memory_step(memory, SIZE_MAX / 2)) {
    }
    free(memory);
}

size_t memory_bytes(const struct memory *memory)
{
    return (memory->n_regions * REGION_PAGES - memory->n_free_pages) * PAGE_BYTES + memory->large_bytes;
}
