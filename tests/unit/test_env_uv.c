/* The production env on a real directory. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consensus/env_uv.h"
#include "consensus/snapshot.h"
#include "consensus/wal.h"

struct world {
    char dir[64];
    uv_loop_t loop;
    struct env *env;
    char log[512];
    bool closed;
};

static struct world w;

static void log_cb(void *ctx, int level, const char *text)
{
    struct world *world = ctx;
    (void)level;
    snprintf(world->log, sizeof world->log, "%s", text);
}

static void closed_cb(void *ctx)
{
    ((struct world *)ctx)->closed = true;
}

static enum env_status try_open(const char *dir, const char **error)
{
    struct env_uv_config config = {.loop = &w.loop, .dir = dir, .log = log_cb, .ctx = &w};
    return env_uv_new(&config, &w.env, error);
}

static void reopen(void)
{
    const char *error;
    enum env_status status = try_open(w.dir, &error);
    ck_assert_msg(status == ENV_OK, "%s", error);
    w.closed = false;
}

static void close_env(void)
{
    env_uv_close(w.env, closed_cb, &w);
    w.env = NULL;
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ck_assert(w.closed);
}

static void setup(void)
{
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/test_env_uv.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(w.dir));
    ck_assert_int_eq(uv_loop_init(&w.loop), 0);
    reopen();
}

static void teardown(void)
{
    if (w.env != NULL) {
        close_env();
    }
    ck_assert_int_eq(uv_loop_close(&w.loop), 0); /* no handle is left */
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    ck_assert_int_eq(system(command), 0);
}

struct op {
    struct env_disk_req req;
    bool done;
    enum env_status status;
    unsigned order;
};

static unsigned order_next;

static void op_cb(struct env_disk_req *req, enum env_status status)
{
    struct op *op = req->data;
    op->done = true;
    op->status = status;
    op->order = order_next++;
}

static void submit(struct op *op, struct env_disk_req req)
{
    memset(op, 0, sizeof *op);
    op->req = req;
    op->req.data = op;
    op->req.cb = op_cb;
    w.env->ops->submit(w.env, &op->req);
    ck_assert(!op->done); /* never from inside the call */
}

static enum env_status run(struct op *op, struct env_disk_req req)
{
    submit(op, req);
    while (!op->done) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    return op->status;
}

static uint8_t *block_new(size_t n, int fill)
{
    uint8_t *buf = aligned_alloc(ENV_BLOCK, n * ENV_BLOCK);
    ck_assert_ptr_nonnull(buf);
    memset(buf, fill, n * ENV_BLOCK);
    return buf;
}

static struct env_file *create(const char *name, size_t blocks)
{
    struct op op;
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_CREATE, .name = name, .len = blocks * ENV_BLOCK}),
                     ENV_OK);
    return op.req.file;
}

START_TEST(a_created_file_is_zero_filled_and_has_its_size)
{
    struct env_file *file = create("a", 100);
    uint8_t *buf = block_new(101, 1);
    struct op op;
    ck_assert_int_eq(
        run(&op, (struct env_disk_req){.op = ENV_DISK_READ, .file = file, .buf = buf, .len = 101 * ENV_BLOCK}), ENV_OK);
    for (size_t i = 0; i < 101 * ENV_BLOCK; i++) {
        ck_assert_int_eq(buf[i], 0);
    }
    char path[128];
    struct stat stat_buf;
    snprintf(path, sizeof path, "%s/a", w.dir);
    ck_assert_int_eq(stat(path, &stat_buf), 0);
    ck_assert_int_eq(stat_buf.st_size, 100 * ENV_BLOCK);
    ck_assert_int_eq(stat_buf.st_mode & 0777, 0600);
    w.env->ops->close(w.env, file);
    free(buf);
}
END_TEST

START_TEST(what_is_written_is_read_back_also_after_reopening)
{
    struct env_file *file = create("a", 8);
    uint8_t *out = block_new(3, 0x5a);
    uint8_t *in = block_new(3, 0);
    struct op op;
    ck_assert_int_eq(
        run(&op,
            (struct env_disk_req){
                .op = ENV_DISK_WRITE, .file = file, .offset = 2 * ENV_BLOCK, .buf = out, .len = 3 * ENV_BLOCK}),
        ENV_OK);
    w.env->ops->close(w.env, file);
    close_env();
    reopen();
    uint64_t size;
    ck_assert_int_eq(w.env->ops->open(w.env, "a", &file, &size), ENV_OK);
    ck_assert_uint_eq(size, 8 * ENV_BLOCK);
    ck_assert_int_eq(w.env->ops->read_sync(w.env, file, 2 * ENV_BLOCK, in, 3 * ENV_BLOCK), ENV_OK);
    ck_assert_int_eq(memcmp(in, out, 3 * ENV_BLOCK), 0);
    ck_assert_int_eq(w.env->ops->read_sync(w.env, file, 5 * ENV_BLOCK, in, 3 * ENV_BLOCK), ENV_OK);
    ck_assert_int_eq(in[0], 0);
    w.env->ops->close(w.env, file);
    free(in);
    free(out);
}
END_TEST

START_TEST(writes_of_one_file_complete_in_order)
{
    enum { N = 50 };
    static struct op ops[N];
    struct env_file *file = create("a", 1);
    uint8_t *bufs[N];
    order_next = 0;
    for (int i = 0; i < N; i++) {
        bufs[i] = block_new(1, i + 1);
        submit(&ops[i], (struct env_disk_req){.op = ENV_DISK_WRITE, .file = file, .buf = bufs[i], .len = ENV_BLOCK});
    }
    w.env->ops->close(w.env, file); /* after what is in flight */
    while (!ops[N - 1].done) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    for (unsigned i = 0; i < N; i++) {
        ck_assert_int_eq(ops[i].status, ENV_OK);
        ck_assert_uint_eq(ops[i].order, i);
        free(bufs[i]);
    }
    uint64_t size;
    uint8_t *in = block_new(1, 0);
    ck_assert_int_eq(w.env->ops->open(w.env, "a", &file, &size), ENV_OK);
    ck_assert_int_eq(w.env->ops->read_sync(w.env, file, 0, in, ENV_BLOCK), ENV_OK);
    ck_assert_int_eq(in[17], N);
    w.env->ops->close(w.env, file);
    free(in);
}
END_TEST

START_TEST(rename_and_remove_do_what_they_say)
{
    struct op op;
    w.env->ops->close(w.env, create("a", 1));
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_RENAME, .name = "a", .name_to = "b"}), ENV_OK);
    struct env_file *file;
    uint64_t size;
    ck_assert_int_eq(w.env->ops->open(w.env, "a", &file, &size), ENV_NOT_FOUND);
    ck_assert_int_eq(w.env->ops->rename_sync(w.env, "b", "c"), ENV_OK);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_REMOVE, .name = "c"}), ENV_OK);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_REMOVE, .name = "c"}), ENV_NOT_FOUND);
    ck_assert_int_eq(w.env->ops->remove_sync(w.env, "c"), ENV_NOT_FOUND);
}
END_TEST

#define LARGE_BLOCKS ((size_t)(24u << 20) / ENV_BLOCK)

/* A large file, and a descriptor that outlives its name. */
static int large_file(const char *name, const char *other_name)
{
    char path[2][128];
    w.env->ops->close(w.env, create(name, LARGE_BLOCKS));
    snprintf(path[0], sizeof path[0], "%s/%s", w.dir, name);
    if (other_name != NULL) {
        snprintf(path[1], sizeof path[1], "%s/%s", w.dir, other_name);
        ck_assert_int_eq(link(path[0], path[1]), 0);
    }
    int fd = open(path[0], O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat stat;
    ck_assert_int_eq(fstat(fd, &stat), 0);
    return stat.st_size;
}

START_TEST(a_large_file_goes_by_name_at_once_and_gives_back_its_space_in_steps)
{
    struct op op;
    int fd = large_file("a", NULL);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_REMOVE, .name = "a"}), ENV_OK);
    w.env->ops->close(w.env, create("a", 1)); /* the name is free */
    off_t last = (off_t)(LARGE_BLOCKS * ENV_BLOCK);
    unsigned steps = 0;
    const uint64_t end_us = w.env->ops->now_us(w.env) + 30000000;
    while (last > 0) {
        const off_t size = size_of(fd);
        ck_assert_uint_lt(w.env->ops->now_us(w.env), end_us);
        ck_assert_int_le(size, last);
        steps += size < last;
        last = size;
    }
    ck_assert_uint_ge(steps, 1);
    close(fd);
}
END_TEST

START_TEST(a_large_file_with_another_name_keeps_its_content)
{
    struct op op;
    int fd = large_file("a", "link");
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_REMOVE, .name = "a"}), ENV_OK);
    close_env();
    ck_assert_int_eq(size_of(fd), (off_t)(LARGE_BLOCKS * ENV_BLOCK));
    close(fd);
}
END_TEST

START_TEST(closing_does_not_wait_until_large_files_are_gone)
{
    struct op op;
    int fds[3];
    for (int i = 0; i < 3; i++) {
        const char name[2] = {(char)('a' + i), 0};
        fds[i] = large_file(name, NULL);
        ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_REMOVE, .name = name}), ENV_OK);
    }
    close_env();
    for (int i = 0; i < 3; i++) {
        struct stat stat;
        ck_assert_int_eq(fstat(fds[i], &stat), 0);
        ck_assert_uint_eq(stat.st_nlink, 0); /* whatever is left goes with the descriptor */
        close(fds[i]);
    }
}
END_TEST

START_TEST(an_existing_file_is_not_created_again)
{
    w.env->ops->close(w.env, create("a", 1));
    struct op op;
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_CREATE, .name = "a", .len = ENV_BLOCK}), ENV_EXISTS);
    struct env_file *file;
    ck_assert_int_eq(w.env->ops->create(w.env, "a", ENV_BLOCK, &file), ENV_EXISTS);
}
END_TEST

START_TEST(a_file_larger_than_the_disk_is_refused_and_leaves_nothing)
{
    struct op op;
    size_t huge = (size_t)1 << 46;
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_CREATE, .name = "a", .len = huge}), ENV_NO_SPACE);
    char path[128];
    snprintf(path, sizeof path, "%s/a.tmp", w.dir);
    ck_assert_int_ne(access(path, F_OK), 0);
    struct env_file *file;
    uint64_t size;
    ck_assert_int_eq(w.env->ops->open(w.env, "a", &file, &size), ENV_NOT_FOUND);
}
END_TEST

struct listing {
    unsigned n;
    uint64_t bytes;
};

static void list_cb(void *ctx, const char *name, uint64_t size)
{
    struct listing *listing = ctx;
    ck_assert(strcmp(name, "a") == 0 || strcmp(name, "b") == 0);
    listing->n++;
    listing->bytes += size;
}

START_TEST(list_names_the_files_and_nothing_of_its_own)
{
    w.env->ops->close(w.env, create("a", 1));
    w.env->ops->close(w.env, create("b", 2));
    char path[128];
    snprintf(path, sizeof path, "%s/sub", w.dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    struct listing listing = {0};
    ck_assert_int_eq(w.env->ops->list(w.env, list_cb, &listing), ENV_OK);
    ck_assert_uint_eq(listing.n, 2);
    ck_assert_uint_eq(listing.bytes, 3 * ENV_BLOCK);
}
END_TEST

START_TEST(what_an_interrupted_creation_left_is_tidied_up)
{
    close_env();
    char path[128];
    snprintf(path, sizeof path, "%s/wal-00000007.tmp", w.dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    reopen();
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_missing_directory_is_made_with_its_parents_and_private)
{
    close_env();
    char dir[100];
    snprintf(dir, sizeof dir, "%s/x/y", w.dir);
    const char *error;
    ck_assert_int_eq(try_open(dir, &error), ENV_OK);
    struct stat stat_buf;
    ck_assert_int_eq(stat(dir, &stat_buf), 0);
    ck_assert_int_eq(stat_buf.st_mode & 0777, 0700);
}
END_TEST

/* Run `body` in a child process; its exit status. */
static int in_child(int (*body)(void))
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        _exit(body());
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int child_open(void)
{
    uv_loop_t loop;
    struct env *env;
    const char *error;
    uv_loop_init(&loop);
    struct env_uv_config config = {.loop = &loop, .dir = w.dir};
    enum env_status status = env_uv_new(&config, &env, &error);
    if (status == ENV_OK) {
        return 97;
    }
    if (uv_loop_close(&loop) != 0) {
        return 96; /* nothing may be left behind on the loop */
    }
    return status == ENV_BUSY && strstr(error, "in use by another process") == NULL ? 99 : (int)status;
}

START_TEST(a_directory_in_use_by_another_process_is_refused)
{
    ck_assert_int_eq(in_child(child_open), ENV_BUSY);
}
END_TEST

static int child_open_as_nobody(void)
{
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
        return 98;
    }
    return child_open();
}

START_TEST(an_unwritable_directory_is_refused)
{
    close_env();
    ck_assert_int_eq(chmod(w.dir, 0555), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/lock", w.dir);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(in_child(child_open_as_nobody), ENV_DENIED);
    ck_assert_int_eq(chmod(w.dir, 0700), 0);
    reopen();
}
END_TEST

START_TEST(a_file_in_place_of_the_directory_is_refused)
{
    close_env();
    char path[128];
    snprintf(path, sizeof path, "%s/file", w.dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    const char *error;
    ck_assert_int_eq(try_open(path, &error), ENV_IO);
    ck_assert_ptr_nonnull(strstr(error, path));
    reopen();
}
END_TEST

static int child_fail_stop(void)
{
    /* The threads did not survive the fork; fail_stop does not need them. */
    w.env->ops->fail_stop(w.env, "what", "advice");
    return 0;
}

START_TEST(fail_stop_ends_the_process_with_status_70)
{
    unsetenv("LOCKSTEP_FAIL_STOP_ABORT");
    ck_assert_int_eq(in_child(child_fail_stop), 70);
    setenv("LOCKSTEP_FAIL_STOP_ABORT", "1", 1);
    ck_assert_int_eq(in_child(child_fail_stop), 1000 + SIGABRT);
    unsetenv("LOCKSTEP_FAIL_STOP_ABORT");
}
END_TEST

struct tick {
    struct env_timer timer;
    uint64_t at_us;
    uint64_t fired_us;
    unsigned order;
};

static void tick_cb(struct env_timer *timer)
{
    struct tick *tick = timer->data;
    tick->fired_us = w.env->ops->now_us(w.env);
    tick->order = order_next++;
}

START_TEST(timers_fire_in_order_and_never_early)
{
    enum { N = 6 };
    static const unsigned order[N] = {4, 2, 1, 5, 3, 0};
    struct tick ticks[N];
    order_next = 0;
    for (unsigned i = 0; i < N; i++) {
        ticks[i] = (struct tick){.timer = {.data = &ticks[i], .cb = tick_cb}};
        ck_assert_int_eq(w.env->ops->timer_init(w.env, &ticks[i].timer), ENV_OK);
    }
    /* The order means something only if all are set before the first is due. */
    uint64_t first_us;
    uint64_t ahead_us = 5000;
    do {
        ahead_us *= 2;
        first_us = w.env->ops->now_us(w.env) + ahead_us;
        for (unsigned i = 0; i < N; i++) {
            ticks[i].at_us = first_us + order[i] * 5000u + i * 111u;
            w.env->ops->timer_set(w.env, &ticks[i].timer, first_us - 1); /* replaced by the next call */
            w.env->ops->timer_set(w.env, &ticks[i].timer, ticks[i].at_us);
        }
    } while (w.env->ops->now_us(w.env) >= first_us);
    while (order_next < N) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    for (unsigned i = 0; i < N; i++) {
        ck_assert_uint_ge(ticks[i].fired_us, ticks[i].at_us);
        ck_assert_uint_eq(ticks[i].order, order[i]);
        w.env->ops->timer_fini(w.env, &ticks[i].timer);
    }
}
END_TEST

START_TEST(a_stopped_timer_does_not_fire)
{
    struct tick stopped = {.timer = {.data = &stopped, .cb = tick_cb}};
    struct tick later = {.timer = {.data = &later, .cb = tick_cb}};
    order_next = 0;
    ck_assert_int_eq(w.env->ops->timer_init(w.env, &stopped.timer), ENV_OK);
    ck_assert_int_eq(w.env->ops->timer_init(w.env, &later.timer), ENV_OK);
    uint64_t now_us = w.env->ops->now_us(w.env);
    w.env->ops->timer_set(w.env, &stopped.timer, now_us + 1000);
    w.env->ops->timer_set(w.env, &later.timer, now_us + 5000);
    w.env->ops->timer_stop(w.env, &stopped.timer);
    while (order_next == 0) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(stopped.fired_us, 0);
    w.env->ops->timer_fini(w.env, &stopped.timer);
    w.env->ops->timer_fini(w.env, &later.timer);
}
END_TEST

START_TEST(closing_calls_everything_back_before_it_ends)
{
    enum { N = 200 };
    static struct op ops[N];
    struct env_file *file = create("a", 1);
    uint8_t *buf = block_new(1, 1);
    for (int i = 0; i < N; i++) {
        submit(&ops[i], (struct env_disk_req){.op = ENV_DISK_WRITE, .file = file, .buf = buf, .len = ENV_BLOCK});
    }
    env_uv_close(w.env, closed_cb, &w);
    static struct op late;
    submit(&late, (struct env_disk_req){.op = ENV_DISK_WRITE, .file = file, .buf = buf, .len = ENV_BLOCK});
    w.env->ops->close(w.env, file);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ck_assert(w.closed);
    for (int i = 0; i < N; i++) {
        ck_assert(ops[i].done);
        ck_assert(ops[i].status == ENV_OK || ops[i].status == ENV_CANCELED);
    }
    ck_assert_int_eq(ops[N - 1].status, ENV_CANCELED);
    ck_assert(late.done);
    ck_assert_int_eq(late.status, ENV_CANCELED);
    free(buf);
    reopen();
}
END_TEST

START_TEST(free_space_and_random_numbers_make_sense)
{
    ck_assert_uint_gt(w.env->ops->free_bytes(w.env), 0);
    ck_assert_uint_eq(w.env->ops->free_bytes(w.env), w.env->ops->free_bytes(w.env)); /* cached */
    uint64_t a = w.env->ops->random(w.env);
    uint64_t b = w.env->ops->random(w.env);
    ck_assert_uint_ne(a, b);
    ck_assert_uint_gt(w.env->ops->wall_ms(w.env), 1600000000000u);
}
END_TEST

static void persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    (void)term;
    *(uint64_t *)ctx = index;
}

static void failed_cb(void *ctx, enum env_status status)
{
    (void)ctx;
    ck_abort_msg("write failed: %d", (int)status);
}

START_TEST(a_wal_on_a_real_disk_survives_reopening)
{
    static uint8_t data[3000];
    uint64_t persisted = 0;
    struct wal_config config = {.segment_bytes = 64u << 10,
                                .entry_bytes_max = 16u << 10,
                                .persisted = persisted_cb,
                                .failed = failed_cb,
                                .ctx = &persisted};
    for (uint64_t round = 0; round < 3; round++) {
        struct wal *wal;
        const char *error;
        ck_assert_int_eq(wal_open(w.env, &config, &wal, &error), WAL_OK);
        ck_assert_uint_eq(wal_last(wal), round * 100);
        for (uint64_t i = 1; i <= 100; i++) {
            memset(data, (int)i, sizeof data);
            struct wal_entry entry = {
                .index = round * 100 + i, .term = 1, .type = WAL_COMMAND, .data = data, .len = sizeof data};
            ck_assert_int_eq(wal_append(wal, &entry, 1), WAL_OK);
            wal_flush(wal);
            uv_run(&w.loop, UV_RUN_NOWAIT);
        }
        while (persisted < round * 100 + 100) {
            uv_run(&w.loop, UV_RUN_ONCE);
        }
        void *got;
        size_t len;
        ck_assert_int_eq(wal_read_sync(wal, 77, &got, &len), WAL_OK);
        ck_assert_uint_eq(len, sizeof data);
        ck_assert_int_eq(((uint8_t *)got)[2999], 77);
        free(got);
        wal_close(wal); /* perhaps with a creation in flight */
        close_env();
        reopen();
    }
}
END_TEST

START_TEST(a_bulk_file_grows_and_is_found_again_with_its_size)
{
    struct op op;
    uint8_t *out = block_new(3, 5);
    uint8_t *in = block_new(8, 1);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_BULK_CREATE, .name = "bulk"}), ENV_OK);
    struct env_file *file = op.req.file;
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_BULK_CREATE, .name = "bulk"}), ENV_EXISTS);
    for (unsigned i = 0; i < 3; i++) { /* each overlaps the one before by a block */
        memset(out, (int)(5 + i), 3 * ENV_BLOCK);
        ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_WRITE,
                                                        .file = file,
                                                        .offset = (uint64_t)i * 2 * ENV_BLOCK,
                                                        .buf = out,
                                                        .len = 3 * ENV_BLOCK}),
                         ENV_OK);
    }
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_SYNC, .file = file}), ENV_OK);
    w.env->ops->close(w.env, file);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_RENAME, .name = "bulk", .name_to = "b"}), ENV_OK);
    close_env();
    reopen();
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_BULK_OPEN, .name = "bulk"}), ENV_NOT_FOUND);
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_BULK_OPEN, .name = "b"}), ENV_OK);
    ck_assert_uint_eq(op.req.len, 7 * ENV_BLOCK);
    file = op.req.file;
    ck_assert_int_eq(
        run(&op, (struct env_disk_req){.op = ENV_DISK_READ, .file = file, .buf = in, .len = 8 * ENV_BLOCK}), ENV_OK);
    static const uint8_t want[8] = {5, 5, 6, 6, 7, 7, 7, 0};
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_eq(in[i * ENV_BLOCK], want[i]);
        ck_assert_uint_eq(in[(i + 1) * ENV_BLOCK - 1], want[i]);
    }
    w.env->ops->close(w.env, file);
    free(out);
    free(in);
}
END_TEST

static void work(struct env_disk_req *req)
{
    *(pthread_t *)req->buf = pthread_self();
}

START_TEST(work_runs_on_another_thread)
{
    struct op op;
    pthread_t thread = pthread_self();
    ck_assert_int_eq(run(&op, (struct env_disk_req){.op = ENV_DISK_WORK, .work = work, .buf = &thread}), ENV_OK);
    ck_assert(!pthread_equal(thread, pthread_self()));
}
END_TEST

/* A snapshot that is written and read as fast as it goes. */
struct snap {
    struct snapshot_writer *writer;
    struct snapshot_reader *reader;
    uint64_t at;
    bool finished;
    bool done;
    enum snapshot_status status;
};

#define SNAP_BYTES (40u << 20)

static uint64_t snap_word(uint64_t at)
{
    return at % 3 == 0 ? at * 0x9e3779b97f4a7c15u : at / 100;
}

static void snap_feed_cb(void *ctx)
{
    struct snap *snap = ctx;
    uint64_t words[1000];
    while (snap->at < SNAP_BYTES) {
        size_t n = 0;
        for (; n < 1000 && snap->at + n * 8 < SNAP_BYTES; n++) {
            words[n] = snap_word(snap->at / 8 + n);
        }
        size_t room = snapshot_writer_room(snap->writer) / 8 * 8;
        size_t len = room < n * 8 ? room : n * 8;
        ck_assert_uint_eq(snapshot_writer_append(snap->writer, words, len), len);
        snap->at += len;
        if (len < n * 8) {
            ck_assert_uint_eq(snapshot_writer_append(snap->writer, words, 8), 0); /* asks for `ready` */
            return;
        }
    }
    if (!snap->finished) {
        snap->finished = true;
        snapshot_writer_finish(snap->writer, 1);
    }
}

static void snap_written_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct snap *snap = ctx;
    (void)error;
    (void)end;
    snap->status = status;
    snap->done = true;
}

static void snap_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    (void)ctx;
    ck_assert_uint_eq(meta->index, 5);
    ck_assert_uint_eq(end->payload_bytes, SNAP_BYTES);
}

static void snap_take_cb(void *ctx)
{
    struct snap *snap = ctx;
    const void *data;
    for (size_t n = snapshot_reader_peek(snap->reader, &data); n > 0; n = snapshot_reader_peek(snap->reader, &data)) {
        for (size_t i = 0; i < n; i += 8) {
            uint64_t word;
            memcpy(&word, (const uint8_t *)data + i, 8);
            ck_assert_uint_eq(word, snap_word((snap->at + i) / 8));
        }
        snap->at += n;
        snapshot_reader_consume(snap->reader, n);
    }
}

static void snap_read_cb(void *ctx, enum snapshot_status status, const char *error)
{
    snap_written_cb(ctx, status, error, NULL);
}

static void snap_wait(struct snap *snap)
{
    while (!snap->done) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(snap->status, SNAPSHOT_OK);
}

START_TEST(a_snapshot_on_a_real_disk_is_read_back_after_reopening)
{
    const struct snapshot_meta meta = {.index = 5, .term = 1};
    struct snap snap = {0};
    const struct snapshot_writer_events writing = {.ready = snap_feed_cb, .done = snap_written_cb, .ctx = &snap};
    ck_assert_int_eq(snapshot_writer_open(w.env, NULL, &meta, &writing, &snap.writer), SNAPSHOT_OK);
    snap_feed_cb(&snap);
    snap_wait(&snap);
    snapshot_writer_close(snap.writer);
    close_env();
    reopen();
    snap = (struct snap){0};
    const struct snapshot_reader_events reading = {
        .opened = snap_opened_cb, .ready = snap_take_cb, .done = snap_read_cb, .ctx = &snap};
    ck_assert_int_eq(
        snapshot_reader_open(w.env, NULL, "snapshot-0000000000000005-0000000000000001", &reading, &snap.reader),
        SNAPSHOT_OK);
    snap_wait(&snap);
    ck_assert_uint_eq(snap.at, SNAP_BYTES);
    snapshot_reader_close(snap.reader);
}
END_TEST

START_TEST(an_env_that_closes_ends_a_writer)
{
    const struct snapshot_meta meta = {.index = 5, .term = 1};
    struct snap snap = {0};
    const struct snapshot_writer_events writing = {.ready = snap_feed_cb, .done = snap_written_cb, .ctx = &snap};
    ck_assert_int_eq(snapshot_writer_open(w.env, NULL, &meta, &writing, &snap.writer), SNAPSHOT_OK);
    snap_feed_cb(&snap);
    for (int i = 0; i < 5; i++) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    snapshot_writer_close(snap.writer);
    close_env();
    reopen();
    ck_assert(!snap.done);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("env_uv");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_created_file_is_zero_filled_and_has_its_size);
    tcase_add_test(cases, what_is_written_is_read_back_also_after_reopening);
    tcase_add_test(cases, writes_of_one_file_complete_in_order);
    tcase_add_test(cases, rename_and_remove_do_what_they_say);
    tcase_add_test(cases, a_large_file_goes_by_name_at_once_and_gives_back_its_space_in_steps);
    tcase_add_test(cases, a_large_file_with_another_name_keeps_its_content);
    tcase_add_test(cases, closing_does_not_wait_until_large_files_are_gone);
    tcase_add_test(cases, an_existing_file_is_not_created_again);
    tcase_add_test(cases, a_file_larger_than_the_disk_is_refused_and_leaves_nothing);
    tcase_add_test(cases, list_names_the_files_and_nothing_of_its_own);
    tcase_add_test(cases, what_an_interrupted_creation_left_is_tidied_up);
    tcase_add_test(cases, a_missing_directory_is_made_with_its_parents_and_private);
    tcase_add_test(cases, a_directory_in_use_by_another_process_is_refused);
    tcase_add_test(cases, an_unwritable_directory_is_refused);
    tcase_add_test(cases, a_file_in_place_of_the_directory_is_refused);
    tcase_add_test(cases, fail_stop_ends_the_process_with_status_70);
    tcase_add_test(cases, timers_fire_in_order_and_never_early);
    tcase_add_test(cases, a_stopped_timer_does_not_fire);
    tcase_add_test(cases, closing_calls_everything_back_before_it_ends);
    tcase_add_test(cases, free_space_and_random_numbers_make_sense);
    tcase_add_test(cases, a_wal_on_a_real_disk_survives_reopening);
    tcase_add_test(cases, a_bulk_file_grows_and_is_found_again_with_its_size);
    tcase_add_test(cases, work_runs_on_another_thread);
    tcase_add_test(cases, a_snapshot_on_a_real_disk_is_read_back_after_reopening);
    tcase_add_test(cases, an_env_that_closes_ends_a_writer);
    Suite *suite = suite_create("env_uv");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
