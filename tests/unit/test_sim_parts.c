/* The simulator's own parts: world, disk, network, checks. A simulator that is kinder or crueller than its model finds
 * nothing, or too much. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_check.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_history.h"
#include "tests/sim/sim_net.h"

static struct sim_world world;

static void setup(void)
{
    sim_world_init(&world, 1, false);
}

static void teardown(void)
{
    sim_world_fini(&world);
}

static void run(uint64_t duration_us)
{
    uint64_t until_us = world.now_us + duration_us;

    while (sim_world_step(&world, until_us)) {
    }
}

/* --- World ------------------------------------------------------------------------------------------------------- */

static unsigned fired[16];
static unsigned n_fired;

static void fired_cb(struct sim_task *task)
{
    fired[n_fired++] = (unsigned)(uintptr_t)task->data;
}

static struct sim_task task_of(unsigned number)
{
    return (struct sim_task){.data = (void *)(uintptr_t)number, .cb = fired_cb};
}

START_TEST(tasks_fire_in_order_of_time_then_of_queueing)
{
    struct sim_task tasks[4] = {task_of(0), task_of(1), task_of(2), task_of(3)};

    n_fired = 0;
    sim_world_at(&world, &tasks[0], 30);
    sim_world_at(&world, &tasks[1], 10);
    sim_world_at(&world, &tasks[2], 20);
    sim_world_at(&world, &tasks[3], 10);
    run(100);
    ck_assert_uint_eq(n_fired, 4);
    ck_assert_uint_eq(fired[0], 1);
    ck_assert_uint_eq(fired[1], 3);
    ck_assert_uint_eq(fired[2], 2);
    ck_assert_uint_eq(fired[3], 0);
    ck_assert_uint_eq(world.now_us, 100);
}
END_TEST

START_TEST(cancelled_task_does_not_fire_and_moved_task_fires_once)
{
    struct sim_task tasks[3] = {task_of(0), task_of(1), task_of(2)};

    n_fired = 0;
    sim_world_at(&world, &tasks[0], 10);
    sim_world_at(&world, &tasks[1], 20);
    sim_world_at(&world, &tasks[2], 30);
    sim_world_cancel(&world, &tasks[0]);
    sim_world_at(&world, &tasks[1], 40);
    run(100);
    ck_assert_uint_eq(n_fired, 2);
    ck_assert_uint_eq(fired[0], 2);
    ck_assert_uint_eq(fired[1], 1);
}
END_TEST

START_TEST(many_tasks_leave_the_queue_sorted)
{
    static struct sim_task tasks[500];
    struct sim_random random;
    uint64_t last_us = 0;

    sim_random_init(&random, 7);
    for (unsigned i = 0; i < 500; i++) {
        tasks[i] = task_of(0);
        sim_world_at(&world, &tasks[i], sim_random_below(&random, 1000));
    }
    for (unsigned i = 0; i < 500; i += 3) {
        sim_world_cancel(&world, &tasks[i]);
    }
    for (unsigned i = 0; i < 500 - 167; i++) {
        n_fired = 0;
        ck_assert(sim_world_step(&world, UINT64_MAX));
        ck_assert_uint_ge(world.now_us, last_us);
        last_us = world.now_us;
    }
    ck_assert(!sim_world_step(&world, 2000));
}
END_TEST

/* --- Disk -------------------------------------------------------------------------------------------------------- */

static struct sim_disk disk;
static unsigned n_completed, n_canceled;
static enum env_status last_status;

static void completed_cb(void *ctx, struct env_disk_req *req, enum env_status status)
{
    (void)ctx;
    (void)req;
    n_completed++;
    last_status = status;
}

static void canceled_cb(struct env_disk_req *req, enum env_status status)
{
    (void)req;
    ck_assert_int_eq(status, ENV_CANCELED);
    n_canceled++;
}

static uint8_t *block_of(int byte, size_t blocks)
{
    uint8_t *block = aligned_alloc(ENV_BLOCK, blocks * ENV_BLOCK);

    ck_assert_ptr_nonnull(block);
    memset(block, byte, blocks * ENV_BLOCK);
    return block;
}

static void disk_setup(void)
{
    setup();
    n_completed = n_canceled = 0;
    sim_disk_init(&disk, &world, world.random, 1u << 20, completed_cb, NULL);
}

static void disk_teardown(void)
{
    sim_disk_fini(&disk);
    teardown();
}

static struct env_disk_req write_of(struct env_file *file, uint64_t offset, void *buf, size_t blocks)
{
    return (struct env_disk_req){
        .op = ENV_DISK_WRITE, .file = file, .offset = offset, .buf = buf, .len = blocks * ENV_BLOCK, .cb = canceled_cb};
}

START_TEST(write_is_durable_once_it_has_completed)
{
    uint8_t *block = block_of('x', 1);
    uint8_t back[ENV_BLOCK];
    struct env_file *file;
    struct env_disk_req req;
    uint64_t size;

    ck_assert_int_eq(sim_disk_create(&disk, "f", 2 * ENV_BLOCK, &file, false), ENV_OK);
    req = write_of(file, ENV_BLOCK, block, 1);
    sim_disk_submit(&disk, &req);
    ck_assert_uint_eq(n_completed, 0);
    run(100000);
    ck_assert_uint_eq(n_completed, 1);
    sim_disk_crash(&disk);
    sim_disk_reap(&disk);
    ck_assert_int_eq(sim_disk_open(&disk, "f", &file, &size), ENV_OK);
    ck_assert_uint_eq(size, 2 * ENV_BLOCK);
    ck_assert_int_eq(sim_disk_read(&disk, file, ENV_BLOCK, back, sizeof back), ENV_OK);
    ck_assert_mem_eq(back, block, ENV_BLOCK);
    free(block);
}
END_TEST

/* Over many crashes: each sector is old or new, and all of none, some and every sector occur. */
START_TEST(crash_tears_a_running_write_at_sectors)
{
    unsigned none = 0, some = 0, all = 0;

    for (unsigned i = 0; i < 100; i++) {
        uint8_t *block = block_of('n', 1);
        uint8_t back[ENV_BLOCK];
        char name[16];
        struct env_file *file;
        struct env_disk_req req;
        uint64_t size;
        unsigned fresh = 0;

        snprintf(name, sizeof name, "f%u", i);
        ck_assert_int_eq(sim_disk_create(&disk, name, ENV_BLOCK, &file, false), ENV_OK);
        req = write_of(file, 0, block, 1);
        sim_disk_submit(&disk, &req);
        sim_disk_crash(&disk);
        sim_disk_cancel_lost(&disk);
        sim_disk_reap(&disk);
        ck_assert_int_eq(sim_disk_open(&disk, name, &file, &size), ENV_OK);
        ck_assert_int_eq(sim_disk_read(&disk, file, 0, back, sizeof back), ENV_OK);
        for (size_t at = 0; at < ENV_BLOCK; at += SIM_SECTOR) {
            ck_assert(back[at] == 0 || back[at] == 'n');
            for (size_t k = 1; k < SIM_SECTOR; k++) {
                ck_assert_uint_eq(back[at + k], back[at]);
            }
            fresh += back[at] == 'n' ? 1 : 0;
        }
        none += fresh == 0 ? 1 : 0;
        all += fresh == ENV_BLOCK / SIM_SECTOR ? 1 : 0;
        some += fresh > 0 && fresh < ENV_BLOCK / SIM_SECTOR ? 1 : 0;
        sim_disk_close(&disk, file);
        free(block);
    }
    ck_assert_uint_eq(n_canceled, 100);
    ck_assert_uint_gt(none, 0);
    ck_assert_uint_gt(some, 0);
    ck_assert_uint_gt(all, 0);
}
END_TEST

START_TEST(crash_loses_what_waits_behind_a_running_write)
{
    uint8_t *first = block_of('1', 1);
    uint8_t *second = block_of('2', 1);
    uint8_t back[ENV_BLOCK];
    struct env_file *file;
    struct env_disk_req reqs[2];
    uint64_t size;

    ck_assert_int_eq(sim_disk_create(&disk, "f", 2 * ENV_BLOCK, &file, false), ENV_OK);
    reqs[0] = write_of(file, 0, first, 1);
    reqs[1] = write_of(file, ENV_BLOCK, second, 1);
    sim_disk_submit(&disk, &reqs[0]);
    sim_disk_submit(&disk, &reqs[1]);
    sim_disk_crash(&disk);
    sim_disk_cancel_lost(&disk);
    sim_disk_reap(&disk);
    ck_assert_int_eq(sim_disk_open(&disk, "f", &file, &size), ENV_OK);
    ck_assert_int_eq(sim_disk_read(&disk, file, ENV_BLOCK, back, sizeof back), ENV_OK);
    for (size_t i = 0; i < ENV_BLOCK; i++) {
        ck_assert_uint_eq(back[i], 0);
    }
    free(first);
    free(second);
}
END_TEST

START_TEST(full_disk_refuses_new_files_and_takes_writes_into_old_ones)
{
    uint8_t *block = block_of('x', 1);
    struct env_file *file, *other;
    struct env_disk_req req;

    ck_assert_int_eq(sim_disk_create(&disk, "f", 1u << 20, &file, false), ENV_OK);
    ck_assert_uint_eq(sim_disk_free_bytes(&disk), 0);
    ck_assert_int_eq(sim_disk_create(&disk, "g", ENV_BLOCK, &other, false), ENV_NO_SPACE);
    req = write_of(file, 0, block, 1);
    sim_disk_submit(&disk, &req);
    run(100000);
    ck_assert_int_eq(last_status, ENV_OK);
    free(block);
}
END_TEST

START_TEST(buffer_changed_during_its_write_is_a_violation)
{
    uint8_t *block = block_of('x', 1);
    struct env_file *file;
    struct env_disk_req req;

    ck_assert_int_eq(sim_disk_create(&disk, "f", ENV_BLOCK, &file, false), ENV_OK);
    req = write_of(file, 0, block, 1);
    sim_disk_submit(&disk, &req);
    block[17] = 'y';
    run(100000);
    ck_assert(world.violated);
    free(block);
}
END_TEST

START_TEST(unaligned_request_is_a_violation)
{
    uint8_t *block = block_of('x', 1);
    struct env_file *file;
    struct env_disk_req req;

    ck_assert_int_eq(sim_disk_create(&disk, "f", 2 * ENV_BLOCK, &file, false), ENV_OK);
    req = write_of(file, 512, block, 1);
    sim_disk_submit(&disk, &req);
    ck_assert(world.violated);
    run(100000);
    free(block);
}
END_TEST

START_TEST(injected_error_fails_the_request)
{
    uint8_t *block = block_of('x', 1);
    struct env_file *file;
    struct env_disk_req req;

    ck_assert_int_eq(sim_disk_create(&disk, "f", ENV_BLOCK, &file, false), ENV_OK);
    disk.write_error_ppm = 1000000;
    req = write_of(file, 0, block, 1);
    sim_disk_submit(&disk, &req);
    run(100000);
    ck_assert_int_eq(last_status, ENV_IO);
    free(block);
}
END_TEST

START_TEST(flip_changes_one_bit_of_data)
{
    uint8_t *block = block_of(0x55, 1);
    uint8_t back[ENV_BLOCK];
    struct env_file *file;
    char name[32];
    uint64_t offset;
    unsigned changed = 0;

    ck_assert_int_eq(sim_disk_create(&disk, "f", ENV_BLOCK, &file, false), ENV_OK);
    ck_assert(!sim_disk_flip(&disk, name, sizeof name, &offset)); /* zeros are not data */
    ck_assert_int_eq(sim_disk_write(&disk, file, 0, block, ENV_BLOCK, false), ENV_OK);
    ck_assert(sim_disk_flip(&disk, name, sizeof name, &offset));
    ck_assert_str_eq(name, "f");
    ck_assert_int_eq(sim_disk_read(&disk, file, 0, back, sizeof back), ENV_OK);
    for (size_t i = 0; i < ENV_BLOCK; i++) {
        unsigned difference = back[i] ^ 0x55u;

        changed += difference != 0 ? 1 : 0;
        ck_assert_uint_eq(difference & (difference - 1), 0);
    }
    ck_assert_uint_eq(changed, 1);
    free(block);
}
END_TEST

/* --- Network -------------------------------------------------------------------------------------------------------
 */

static struct sim_net net;
static unsigned received[1000];
static uint64_t received_connection[1000];
static unsigned n_received;
static bool up[3];

static void deliver_cb(void *ctx, struct sim_frame *frame)
{
    (void)ctx;
    memcpy(&received[n_received], frame->bytes, sizeof received[0]);
    received_connection[n_received++] = frame->connection;
    sim_frame_free(frame);
}

static void state_cb(void *ctx, unsigned node, unsigned peer, bool connected)
{
    (void)ctx;
    (void)node;
    (void)peer;
    (void)connected;
}

static bool is_up_cb(void *ctx, unsigned node)
{
    (void)ctx;
    return up[node];
}

static void net_setup(void)
{
    const struct sim_net_config config = {.n_nodes = 3, .deliver = deliver_cb, .state = state_cb, .is_up = is_up_cb};

    setup();
    n_received = 0;
    sim_net_init(&net, &world, world.random, &config);
    for (unsigned i = 0; i < 3; i++) {
        up[i] = true;
        sim_net_node_up(&net, i);
    }
    run(1000000);
    ck_assert(sim_net_connected(&net, 0, 1));
}

static void net_teardown(void)
{
    sim_net_fini(&net);
    teardown();
}

static bool send_number(unsigned number)
{
    const struct iovec piece = {&number, sizeof number};

    return sim_net_send(&net, 0, 1, &piece, 1);
}

START_TEST(connection_keeps_order_and_loses_nothing)
{
    net.spike_ppm = 100000;
    for (unsigned i = 0; i < 300; i++) {
        ck_assert(send_number(i));
        run(50);
    }
    run(5000000);
    ck_assert_uint_eq(n_received, 300);
    for (unsigned i = 0; i < 300; i++) {
        ck_assert_uint_eq(received[i], i);
    }
}
END_TEST

START_TEST(broken_connection_loses_a_suffix_and_none_of_it_comes_after_the_next)
{
    unsigned lost = 0;

    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 10; i++) {
            (void)send_number(100 * round + i);
            run(20);
        }
        sim_net_break(&net, 0, 1);
        run(2000000);
    }
    for (unsigned i = 1; i < n_received; i++) {
        ck_assert_uint_ge(received_connection[i], received_connection[i - 1]);
        ck_assert_uint_gt(received[i], received[i - 1]);
        lost += received[i] != received[i - 1] + 1 && received[i] / 100 == received[i - 1] / 100 ? 1 : 0;
    }
    ck_assert_uint_eq(lost, 0); /* no gap within a connection */
    ck_assert_uint_lt(n_received, 200);
    ck_assert_uint_gt(n_received, 0);
}
END_TEST

START_TEST(blocked_direction_holds_frames_and_delivers_them_in_order)
{
    sim_net_block(&net, 0, 1, true);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert(send_number(i));
        run(100);
    }
    run(10000);
    ck_assert_uint_eq(n_received, 0);
    sim_net_block(&net, 0, 1, false);
    run(1000000);
    ck_assert_uint_eq(n_received, 20);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_uint_eq(received[i], i);
    }
}
END_TEST

START_TEST(long_blockage_breaks_the_connection_until_it_ends)
{
    sim_net_block(&net, 0, 1, true);
    run(60000000);
    ck_assert(!sim_net_connected(&net, 0, 1));
    ck_assert(!send_number(1));
    sim_net_block(&net, 0, 1, false);
    run(5000000);
    ck_assert(sim_net_connected(&net, 0, 1));
}
END_TEST

START_TEST(full_queue_refuses_frames)
{
    unsigned taken = 0;

    sim_net_block(&net, 0, 1, true);
    net.queue_bytes_max = 10 * sizeof(unsigned);
    for (unsigned i = 0; i < 100; i++) {
        taken += send_number(i) ? 1 : 0;
    }
    ck_assert_uint_eq(taken, 10);
}
END_TEST

START_TEST(restarted_node_hears_nothing_sent_to_its_predecessor)
{
    ck_assert(send_number(1));
    up[1] = false;
    sim_net_node_down(&net, 1);
    up[1] = true;
    sim_net_node_up(&net, 1);
    run(2000000);
    ck_assert_uint_eq(n_received, 0);
    ck_assert(send_number(2));
    run(100000);
    ck_assert_uint_eq(n_received, 1);
    ck_assert_uint_eq(received_connection[0], 1); /* a new process counts from the start */
}
END_TEST

START_TEST(chaos_loses_doubles_and_reorders)
{
    unsigned falls = 0;

    net.chaos = true;
    net.lose_ppm = 200000;
    net.double_ppm = 200000;
    for (unsigned i = 0; i < 300; i++) {
        (void)send_number(i);
        run(100);
    }
    run(1000000);
    for (unsigned i = 1; i < n_received; i++) {
        falls += received[i] < received[i - 1] ? 1 : 0;
    }
    ck_assert_uint_gt(falls, 0);
    ck_assert_uint_gt(net.lost, 0);
    ck_assert_uint_gt(net.doubled, 0);
}
END_TEST

/* --- Checks ------------------------------------------------------------------------------------------------------ */

static struct sim_check check;

static void check_setup(void)
{
    setup();
    sim_check_init(&check, &world);
}

static void check_teardown(void)
{
    sim_check_fini(&check);
    teardown();
}

static void violated(const char *invariant)
{
    ck_assert(world.violated);
    ck_assert_str_eq(world.invariant, invariant);
}

START_TEST(two_leaders_of_a_term_are_found)
{
    sim_check_leads(&check, 0, 5);
    sim_check_leads(&check, 0, 5);
    sim_check_leads(&check, 1, 6);
    ck_assert(!world.violated);
    sim_check_leads(&check, 2, 5);
    violated("one leader per term");
}
END_TEST

START_TEST(different_entries_at_an_index_are_found)
{
    struct sim_applied applied = {.index = 3, .term = 2, .content = 77, .digest = 1, .revision = 1};

    sim_check_applied(&check, 0, &applied);
    sim_check_applied(&check, 1, &applied);
    ck_assert(!world.violated);
    applied.content = 78;
    sim_check_applied(&check, 2, &applied);
    violated("log matching");
}
END_TEST

START_TEST(different_content_at_an_index_is_found)
{
    struct sim_applied applied = {.index = 3, .term = 2, .content = 77, .digest = 1, .revision = 1};

    sim_check_applied(&check, 0, &applied);
    applied.digest = 2;
    sim_check_applied(&check, 1, &applied);
    violated("equal digest");
}
END_TEST

START_TEST(read_from_before_an_acknowledged_write_is_found)
{
    sim_check_reply(&check, 0, 10, 9, false, "a write");
    sim_check_shown(&check, 10);
    ck_assert_uint_eq(check.acknowledged, 10);
    sim_check_reply(&check, 1, 10, 10, true, "a read");
    ck_assert(!world.violated);
    sim_check_reply(&check, 2, 9, 10, true, "a read");
    violated("stale read");
}
END_TEST

START_TEST(commit_that_goes_back_is_found)
{
    struct replica_info info = {.term = 1, .commit = 5, .applied = 5};
    struct sim_progress progress = {0};

    sim_check_progress(&check, 0, &info, &progress);
    info.commit = info.applied = 4;
    sim_check_progress(&check, 0, &info, &progress);
    violated("commit never regresses");
}
END_TEST

START_TEST(stamp_ahead_of_all_clocks_is_found)
{
    sim_check_stamp(&check, 0, UINT64_C(1700000000000), true);
    ck_assert(!world.violated);
    sim_check_stamp(&check, 0, UINT64_C(1700000000000) + 3600000, true);
    violated("cluster time");
}
END_TEST

START_TEST(stamp_that_steps_is_found)
{
    sim_check_stamp(&check, 0, UINT64_C(1699999990000), true);
    run(1000000);
    sim_check_stamp(&check, 1, UINT64_C(1699999991000), false);
    ck_assert(!world.violated);
    sim_check_stamp(&check, 1, UINT64_C(1699999991500), false);
    violated("cluster time");
}
END_TEST

/* --- History ----------------------------------------------------------------------------------------------------- */

static struct sim_history history;
static const struct sim_history_limits limits = {.clock_spread_ms = 100, .rate_ppm = 50000};

static void history_setup(void)
{
    setup();
    memset(&history, 0, sizeof history);
}

static void history_teardown(void)
{
    sim_history_fini(&history);
    teardown();
}

static struct sim_op *op_add(enum sim_op_kind kind, const char *key, uint64_t invoke_us, uint64_t return_us)
{
    struct sim_op *op = sim_history_add(&history, invoke_us);

    op->kind = kind;
    op->state = SIM_OP_OK;
    op->return_us = return_us;
    op->outcome = LIN_OK;
    snprintf(op->key, sizeof op->key, "%s", key);
    return op;
}

static struct sim_op *write_add(const char *key, uint64_t at_us, const char *value, uint64_t ttl_ms)
{
    struct sim_op *op = op_add(ttl_ms == 0 ? SIM_SET : SIM_TTL_SET, key, at_us, at_us + 10);

    op->arg = strdup(value);
    op->arg_len = strlen(value);
    op->ttl_ms = ttl_ms;
    return op;
}

static struct sim_op *read_add(enum sim_op_kind kind, const char *key, uint64_t at_us, const char *value)
{
    struct sim_op *op = op_add(kind, key, at_us, at_us + 10);

    op->outcome = value == NULL ? LIN_NIL : LIN_VALUE;
    op->value = value == NULL ? NULL : strdup(value);
    op->value_len = value == NULL ? 0 : strlen(value);
    return op;
}

START_TEST(histories_of_keys_are_checked_apart)
{
    write_add("a", 100, "1", 0);
    write_add("b", 200, "2", 0);
    read_add(SIM_GET, "a", 300, "1");
    read_add(SIM_GET, "b", 400, "2");
    sim_history_check(&history, &world, &limits);
    ck_assert(!world.violated);
    ck_assert_uint_eq(history.keys_checked, 2);
    read_add(SIM_GET, "b", 500, "1");
    sim_history_check(&history, &world, &limits);
    violated("linearizability");
}
END_TEST

START_TEST(failed_writes_have_no_effect_and_unknown_ones_may)
{
    write_add("a", 100, "1", 0)->state = SIM_OP_FAILED;
    write_add("a", 200, "2", 0)->state = SIM_OP_UNKNOWN;
    read_add(SIM_GET, "a", 300, NULL);
    read_add(SIM_GET, "a", 400, "2");
    sim_history_check(&history, &world, &limits);
    ck_assert(!world.violated);
    read_add(SIM_GET, "a", 500, "1");
    sim_history_check(&history, &world, &limits);
    violated("linearizability");
}
END_TEST

START_TEST(key_that_expires_early_is_found)
{
    write_add("t1", 1000000, "v", 5000);
    read_add(SIM_TTL_GET, "t1", 2000000, "v");
    read_add(SIM_TTL_GET, "t1", 6500000, NULL);
    sim_history_check(&history, &world, &limits);
    ck_assert(!world.violated);
    write_add("t2", 10000000, "v", 5000);
    read_add(SIM_TTL_GET, "t2", 12000000, NULL);
    sim_history_check(&history, &world, &limits);
    violated("lifetime");
}
END_TEST

START_TEST(key_that_comes_back_to_life_is_found)
{
    write_add("t1", 1000000, "v", 1000);
    read_add(SIM_TTL_GET, "t1", 3000000, NULL);
    read_add(SIM_TTL_GET, "t1", 3100000, "v");
    sim_history_check(&history, &world, &limits);
    violated("lifetime");
}
END_TEST

START_TEST(balance_that_is_off_is_found)
{
    op_add(SIM_BALANCE, "acc", 100, 200)->integer = 0;
    sim_history_check(&history, &world, &limits);
    ck_assert(!world.violated);
    op_add(SIM_BALANCE, "acc", 300, 400)->integer = 5;
    sim_history_check(&history, &world, &limits);
    violated("atomicity");
}
END_TEST

static void add_case(Suite *suite, const char *name, void (*before)(void), void (*after)(void),
                     const TTest *const *tests, size_t n)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, before, after);
    for (size_t i = 0; i < n; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    const TTest *const world_tests[] = {tasks_fire_in_order_of_time_then_of_queueing,
                                        cancelled_task_does_not_fire_and_moved_task_fires_once,
                                        many_tasks_leave_the_queue_sorted};
    const TTest *const disk_tests[] = {write_is_durable_once_it_has_completed,
                                       crash_tears_a_running_write_at_sectors,
                                       crash_loses_what_waits_behind_a_running_write,
                                       full_disk_refuses_new_files_and_takes_writes_into_old_ones,
                                       buffer_changed_during_its_write_is_a_violation,
                                       unaligned_request_is_a_violation,
                                       injected_error_fails_the_request,
                                       flip_changes_one_bit_of_data};
    const TTest *const net_tests[] = {connection_keeps_order_and_loses_nothing,
                                      broken_connection_loses_a_suffix_and_none_of_it_comes_after_the_next,
                                      blocked_direction_holds_frames_and_delivers_them_in_order,
                                      long_blockage_breaks_the_connection_until_it_ends,
                                      full_queue_refuses_frames,
                                      restarted_node_hears_nothing_sent_to_its_predecessor,
                                      chaos_loses_doubles_and_reorders};
    const TTest *const check_tests[] = {two_leaders_of_a_term_are_found,
                                        different_entries_at_an_index_are_found,
                                        different_content_at_an_index_is_found,
                                        read_from_before_an_acknowledged_write_is_found,
                                        commit_that_goes_back_is_found,
                                        stamp_ahead_of_all_clocks_is_found,
                                        stamp_that_steps_is_found};
    const TTest *const history_tests[] = {
        histories_of_keys_are_checked_apart, failed_writes_have_no_effect_and_unknown_ones_may,
        key_that_expires_early_is_found, key_that_comes_back_to_life_is_found, balance_that_is_off_is_found};
    Suite *suite = suite_create("sim parts");
    SRunner *runner;
    int failed;

#define CASE(name, tests) add_case(suite, #name, name##_setup, name##_teardown, tests, sizeof(tests) / sizeof(tests)[0])
    add_case(suite, "world", setup, teardown, world_tests, sizeof world_tests / sizeof world_tests[0]);
    CASE(disk, disk_tests);
    CASE(net, net_tests);
    CASE(check, check_tests);
    CASE(history, history_tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
