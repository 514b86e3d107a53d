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
    uint16_t class;
    bool listed;
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
    struct page *partial[N_CLASSES];
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

static size_t class_bytes(unsigned class)
{
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
    size_t unit = bytes >= MAPPED_MIN ? 4096 : 64;
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

static void page_list(struct memory *memory, struct page *page)
{
    struct page **list = &memory->partial[page->class];
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
        assert(memory->partial[page->class] == page);
        memory->partial[page->class] = page->next;
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
    page->mark = i == 0 ? (uint32_t)((sizeof(struct region) + 63) & ~(size_t)63) : 0;
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
    page_unlist(memory, page);
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
    struct page *page = memory->partial[class];
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
    if (page->free == 0 && page->mark + bytes > PAGE_BYTES) {
        page_unlist(memory, page);
    }
    return block;
}

static void small_release(struct memory *memory, void *block, unsigned class)
{
    struct region *region = region_of(block);
    size_t offset = (size_t)((uint8_t *)block - (uint8_t *)region);
    struct page *page = &region->pages[offset / PAGE_BYTES];
    assert(page->class == class);
    assert(page->used > 0);
    memcpy(block, &page->free, sizeof page->free);
    POISON(block, class_bytes(class));
    page->free = (uint16_t)(offset % PAGE_BYTES + 1);
    page->used--;
    if (!page->listed) {
        page_list(memory, page);
    }
    /* A class keeps its last page. */
    if (page->used == 0 && (page->next != NULL || page->prev != NULL)) {
        page_give(memory, page);
    }
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

void *memory_alloc(struct memory *memory, size_t size)
{
    assert(size > 0);
    return size <= MEMORY_SMALL_MAX ? small_alloc(memory, class_of(size)) : large_alloc(memory, size);
}

void memory_release(struct memory *memory, void *block, size_t size)
{
    if (size <= MEMORY_SMALL_MAX) {
        small_release(memory, block, class_of(size));
    } else {
        large_release(memory, block);
    }
}

void memory_discard(struct memory *memory)
{
    memset(memory->partial, 0, sizeof memory->partial);
    list_join(&memory->dead, &memory->open);
    list_join(&memory->dead, &memory->full);
    list_join(&memory->dead_large, &memory->large);
    memory->n_regions = 0;
    memory->n_free_pages = 0;
    memory->large_bytes = 0;
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
