#include "tests/sim/sim_world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_world_init(struct sim_world *world, uint64_t seed, bool verbose)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->verbose = verbose;
    sim_random_init(&world->random, seed);
    world->log = calloc(SIM_LOG_LINES, sizeof *world->log);
    assert(world->log != NULL);
}

void sim_world_fini(struct sim_world *world)
{
    for (size_t i = 0; i < world->heap_n; i++) {
        world->heap[i]->position = 0;
    }
    free(world->heap);
    free(world->log);
    memset(world, 0, sizeof *world);
}

static bool task_before(const struct sim_task *a, const struct sim_task *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void heap_put(struct sim_world *world, size_t i, struct sim_task *task)
{
    world->heap[i] = task;
    task->position = i + 1;
}

static void heap_rise(struct sim_world *world, size_t i)
{
    struct sim_task *task = world->heap[i];

    while (i > 0 && task_before(task, world->heap[(i - 1) / 2])) {
        heap_put(world, i, world->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(world, i, task);
}

static void heap_sink(struct sim_world *world, size_t i)
{
    struct sim_task *task = world->heap[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= world->heap_n) {
            break;
        }
        if (child + 1 < world->heap_n && task_before(world->heap[child + 1], world->heap[child])) {
            child++;
        }
        if (!task_before(world->heap[child], task)) {
            break;
        }
        heap_put(world, i, world->heap[child]);
        i = child;
    }
    heap_put(world, i, task);
}

void sim_world_cancel(struct sim_world *world, struct sim_task *task)
{
    size_t i;
    struct sim_task *last;

    if (task->position == 0) {
        return;
    }
    i = task->position - 1;
    assert(i < world->heap_n);
    assert(world->heap[i] == task);
    task->position = 0;
    last = world->heap[--world->heap_n];
    if (last != task) {
        heap_put(world, i, last);
        heap_rise(world, i);
        heap_sink(world, last->position - 1);
    }
}

void sim_world_at(struct sim_world *world, struct sim_task *task, uint64_t at_us)
{
    sim_world_cancel(world, task);
    if (world->heap_n == world->heap_capacity) {
        world->heap_capacity = world->heap_capacity == 0 ? 256 : 2 * world->heap_capacity;
        world->heap = realloc(world->heap, world->heap_capacity * sizeof *world->heap);
        assert(world->heap != NULL);
    }
    task->at_us = at_us < world->now_us ? world->now_us : at_us;
    task->sequence = ++world->sequence;
    heap_put(world, world->heap_n, task);
    world->heap_n++;
    heap_rise(world, world->heap_n - 1);
}

void sim_world_after(struct sim_world *world, struct sim_task *task, uint64_t delay_us)
{
    sim_world_at(world, task, world->now_us + delay_us);
}

bool sim_task_is_queued(const struct sim_task *task)
{
    return task->position != 0;
}

bool sim_world_step(struct sim_world *world, uint64_t until_us)
{
    struct sim_task *task;

    if (world->heap_n == 0 || world->heap[0]->at_us > until_us) {
        if (until_us > world->now_us) {
            world->now_us = until_us;
        }
        return false;
    }
    task = world->heap[0];
    assert(task->at_us >= world->now_us);
    sim_world_cancel(world, task);
    world->now_us = task->at_us;
    world->events++;
    task->cb(task);
    return true;
}

void sim_world_trace(struct sim_world *world, uint64_t what, uint64_t a, uint64_t b)
{
    uint64_t x = world->trace ^ (world->now_us * 0x9e3779b97f4a7c15u);

    x = (x ^ what) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 29) ^ a) * 0x94d049bb133111ebu;
    x = (x ^ (x >> 31) ^ b) * 0xd6e8feb86659fd93u;
    world->trace = x ^ (x >> 32);
}

void sim_world_log(struct sim_world *world, const char *format, ...)
{
    char *line = world->log[world->log_n++ % SIM_LOG_LINES];
    int n = snprintf(line, SIM_LOG_BYTES, "%10.6f ", (double)world->now_us / 1e6);
    va_list args;

    va_start(args, format);
    vsnprintf(line + n, SIM_LOG_BYTES - (size_t)n, format, args);
    va_end(args);
    if (world->verbose) {
        fprintf(stderr, "%s\n", line);
    }
}

void sim_world_print_log(const struct sim_world *world, unsigned n)
{
    uint64_t kept = world->log_n < SIM_LOG_LINES ? world->log_n : SIM_LOG_LINES;
    uint64_t from = world->log_n - (n < kept ? n : kept);

    for (uint64_t i = from; i < world->log_n; i++) {
        fprintf(stderr, "    %s\n", world->log[i % SIM_LOG_LINES]);
    }
}

void sim_world_violation(struct sim_world *world, const char *invariant, const char *format, ...)
{
    va_list args;

    if (world->violated) {
        return;
    }
    world->violated = true;
    world->violation_us = world->now_us;
    snprintf(world->invariant, sizeof world->invariant, "%s", invariant);
    va_start(args, format);
    vsnprintf(world->violation, sizeof world->violation, format, args);
    va_end(args);
    sim_world_log(world, "VIOLATION of %s: %.150s", invariant, world->violation);
}
