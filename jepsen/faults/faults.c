/* A library to preload into a node (LD_PRELOAD): its clocks and its disk, under the control of another process.
 *
 * The control process and this library share one file (LOCKSTEP_FAULTS names it), an array of 64-bit words laid out as
 * `enum word` says. Control writes the settings and reads the counters, by which it knows that a fault had an effect.
 * The same layout stands in jepsen/control/faults.go.
 *
 * Clocks. All clocks of the node run at one rate, as they do on a machine with one oscillator: skew(t) = base skew +
 * (t - base) x rate. The wall clock has an offset besides. Time-outs of epoll are scaled, so that timers keep the
 * node's time.
 *
 * Disk. Writes to regular files can be slow, stall, fail (EIO), be refused for lack of space, or have one bit flipped
 * on their way; reads can be slow, fail, and give less than was asked for. ONLY confines what fails, is refused,
 * flipped or cut short, and which reads are slow, to one kind of file. With the word LOSE set, what is not yet synced
 * lives in this process's memory alone: killing the process then loses it, as a power failure loses what the disk's
 * cache held, and so does a sync that fails: the next one then succeeds, as on Linux. Renames and the sizes of files
 * are not held back. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define BLOCK 4096u

enum word {
    /* settings */
    CLOCK_SEQUENCE, /* odd while the next three change */
    CLOCK_BASE_NS,  /* CLOCK_BOOTTIME at which the rate was set */
    CLOCK_SKEW_NS,  /* skew at that instant */
    CLOCK_RATE_PPM, /* how much faster than real time, from then on */
    WALL_OFFSET_NS,
    WRITE_DELAY_US,
    WRITE_TEAR, /* a delayed write of several blocks does its first part before the delay */
    STALL,      /* writes and syncs wait until it is 0 */
    NO_SPACE,
    FAIL,      /* writes and syncs fail with EIO */
    FLIP,      /* number of writes of several blocks in which a bit is to be flipped */
    NO_DIRECT, /* the file system refuses O_DIRECT */
    LOSE,
    ONLY,        /* enum only */
    FAIL_WRITES, /* number of writes that are to fail with EIO */
    FAIL_SYNCS,  /* number of syncs that are to fail with EIO, and to lose what they should have made durable */
    FAIL_READS,  /* number of reads that are to fail with EIO */
    SHORT_READS, /* every other read of more than a block gives a part of it */
    READ_DELAY_US,
    /* counters */
    N_CLOCK = 32, /* clock reads that were altered */
    N_DELAYED,
    N_STALLED,
    N_NO_SPACE,
    N_FAILED,
    N_FLIPPED,
    N_HELD,     /* writes held in memory */
    HELD_BYTES, /* now */
    WRITING,    /* writes now delayed or stalled */
    N_WRITES,
    N_SHORT,   /* reads cut short */
    N_DROPPED, /* held writes that a failed sync lost */
    WORDS = 64
};

/* The files that faults are confined to, by the beginning of their names. */
enum only { ONLY_ALL, ONLY_LOG, ONLY_SNAPSHOTS, ONLY_STATE, ONLY_KINDS };
static const char *const only_names[ONLY_KINDS] = {"", "wal-", "snapshot-", "state"};

/* One held write. */
struct held {
    struct held *next;
    dev_t device;
    ino_t inode;
    off_t offset;
    size_t len;
    uint8_t data[];
};

static int64_t no_words[WORDS];
static volatile int64_t *words = no_words;
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static struct held *held_first, **held_end = &held_first;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_fstatvfs)(int, struct statvfs *);
static int (*real_epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);

static int64_t get(enum word word)
{
    return __atomic_load_n(&words[word], __ATOMIC_ACQUIRE);
}

static void count(enum word word, int64_t by)
{
    __atomic_fetch_add(&words[word], by, __ATOMIC_ACQ_REL);
}

__attribute__((constructor(101))) static void faults_init(void)
{
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    *(void **)&real_pread = dlsym(RTLD_NEXT, "pread");
    *(void **)&real_openat = dlsym(RTLD_NEXT, "openat");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_fallocate = dlsym(RTLD_NEXT, "fallocate");
    *(void **)&real_fstatvfs = dlsym(RTLD_NEXT, "fstatvfs");
    *(void **)&real_epoll_pwait = dlsym(RTLD_NEXT, "epoll_pwait");
    const char *path = getenv("LOCKSTEP_FAULTS");
    if (path == NULL) {
        return;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof no_words, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        static const char text[] = "faults: LOCKSTEP_FAULTS can't be mapped\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(99);
    }
    close(fd);
    words = map;
}

/* --- clocks --- */

static int64_t to_ns(const struct timespec *ts)
{
    return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static int64_t skew_ns(void)
{
    struct timespec now;
    int64_t before, after, skew;
    if (get(CLOCK_RATE_PPM) == 0 && get(CLOCK_SKEW_NS) == 0) {
        return 0;
    }
    do {
        before = get(CLOCK_SEQUENCE);
        real_clock_gettime(CLOCK_BOOTTIME, &now);
        int64_t since = to_ns(&now) - get(CLOCK_BASE_NS);
        skew = get(CLOCK_SKEW_NS) + since / 1000 * get(CLOCK_RATE_PPM) / 1000;
        after = get(CLOCK_SEQUENCE);
    } while (before != after || (before & 1) != 0);
    return skew;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (real_clock_gettime == NULL) {
        *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int rc = real_clock_gettime(clock, ts);
    if (rc != 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID) {
        return rc;
    }
    int64_t by = skew_ns();
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI) {
        by += get(WALL_OFFSET_NS);
    }
    if (by != 0) {
        int64_t ns = to_ns(ts) + by;
        ts->tv_sec = ns / 1000000000;
        ts->tv_nsec = ns % 1000000000;
        count(N_CLOCK, 1);
    }
    return rc;
}

EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
    int64_t rate = get(CLOCK_RATE_PPM);
    if (timeout > 0 && rate != 0) {
        timeout = (int)((int64_t)timeout * 1000000 / (1000000 + rate));
    }
    return real_epoll_pwait(epoll, events, max, timeout, mask);
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
    return epoll_pwait(epoll, events, max, timeout, NULL);
}

/* --- disk --- */

static void sleep_us(int64_t us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR) {
    }
}

static void wait_while_stalled(void)
{
    if (get(STALL) == 0) {
        return;
    }
    count(N_STALLED, 1);
    count(WRITING, 1);
    while (get(STALL) != 0) {
        sleep_us(1000);
    }
    count(WRITING, -1);
}

/* Is this file one of those that faults are confined to? */
static bool is_meant(int fd)
{
    char link[32], path[4096];
    const int64_t only = get(ONLY);
    if (only <= ONLY_ALL || only >= ONLY_KINDS) {
        return true;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) {
        return false;
    }
    path[n] = '\0';
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    return strncmp(name, only_names[only], strlen(only_names[only])) == 0;
}

/* One less of what is to happen so many times. False: it has. */
static bool take(enum word word)
{
    int64_t left = get(word);
    while (left > 0) {
        if (__atomic_compare_exchange_n(&words[word], &left, left - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            return true;
        }
    }
    return false;
}

/* True if the call is to fail with EIO: always (word FAIL), or this time. */
static bool is_failing(int fd, bool always, enum word times)
{
    if ((!always && get(times) <= 0) || !is_meant(fd) || (!always && !take(times))) {
        return false;
    }
    count(N_FAILED, 1);
    errno = EIO;
    return true;
}

/* The last block of a write may be written again by the next one, which would put it right. */
static bool take_flip(int fd, size_t len)
{
    if (get(FLIP) <= 0 || len < 3 * BLOCK || !is_meant(fd) || !take(FLIP)) {
        return false;
    }
    count(N_FLIPPED, 1);
    return true;
}

static ssize_t hold(const struct stat *stat, const void *buf, size_t len, off_t offset)
{
    struct held *h = malloc(sizeof *h + len);
    if (h == NULL) {
        errno = ENOMEM;
        return -1;
    }
    *h = (struct held){.device = stat->st_dev, .inode = stat->st_ino, .offset = offset, .len = len};
    memcpy(h->data, buf, len);
    pthread_mutex_lock(&held_lock);
    *held_end = h;
    held_end = &h->next;
    pthread_mutex_unlock(&held_lock);
    count(N_HELD, 1);
    count(HELD_BYTES, (int64_t)len);
    return (ssize_t)len;
}

/* Write out what is held of this file, or lose it. */
static int release(int fd, bool lose)
{
    struct stat stat;
    int error = 0;
    if (held_first == NULL || fstat(fd, &stat) != 0) {
        return 0;
    }
    pthread_mutex_lock(&held_lock);
    struct held **at = &held_first;
    while (*at != NULL) {
        struct held *h = *at;
        if (h->device != stat.st_dev || h->inode != stat.st_ino) {
            at = &h->next;
            continue;
        }
        if (lose) {
            count(N_DROPPED, 1);
        } else if (real_pwrite(fd, h->data, h->len, h->offset) != (ssize_t)h->len) {
            error = errno;
        }
        *at = h->next;
        count(HELD_BYTES, -(int64_t)h->len);
        free(h);
    }
    held_end = at;
    pthread_mutex_unlock(&held_lock);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return 0;
}

/* A write that takes its time; the process may be killed meanwhile. */
static ssize_t write_slowly(int fd, const uint8_t *buf, size_t len, off_t offset)
{
    int64_t delay_us = get(WRITE_DELAY_US);
    size_t first = 0;
    if (delay_us > 0) {
        count(N_DELAYED, 1);
        count(WRITING, 1);
        if (get(WRITE_TEAR) != 0 && len > BLOCK) {
            first = len / 2 / BLOCK * BLOCK;
        }
        ssize_t n = first > 0 ? real_pwrite(fd, buf, first, offset) : 0;
        if (n < 0 || (size_t)n != first) {
            count(WRITING, -1);
            return n;
        }
        sleep_us(delay_us);
        count(WRITING, -1);
    }
    ssize_t n = real_pwrite(fd, buf + first, len - first, offset + (off_t)first);
    return n < 0 ? n : n + (ssize_t)first;
}

static ssize_t write_flipped(int fd, const void *buf, size_t len, off_t offset)
{
    void *copy;
    if (posix_memalign(&copy, BLOCK, len) != 0) {
        errno = ENOMEM;
        return -1;
    }
    memcpy(copy, buf, len);
    ((uint8_t *)copy)[len / 3] ^= 4;
    ssize_t n = write_slowly(fd, copy, len, offset);
    free(copy);
    return n;
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    struct stat stat;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        return real_pwrite(fd, buf, len, offset);
    }
    count(N_WRITES, 1);
    wait_while_stalled();
    if (is_failing(fd, get(FAIL) != 0, FAIL_WRITES)) {
        return -1;
    }
    if (get(NO_SPACE) != 0 && offset + (off_t)len > (off_t)stat.st_blocks * 512 && is_meant(fd)) {
        count(N_NO_SPACE, 1);
        errno = ENOSPC;
        return -1;
    }
    if (get(LOSE) != 0 && (flags & O_DSYNC) == 0) {
        return hold(&stat, buf, len, offset);
    }
    return take_flip(fd, len) ? write_flipped(fd, buf, len, offset) : write_slowly(fd, buf, len, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
    return pwrite(fd, buf, len, offset);
}

/* What a read of so many bytes gives: a part of them, though they are there, which a system may do at any time. With
 * O_DIRECT it is whole blocks. */
static size_t cut_short(int fd, size_t len)
{
    static unsigned calls;
    if (get(SHORT_READS) == 0 || len <= BLOCK || !is_meant(fd) ||
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 2 != 0) {
        return len;
    }
    count(N_SHORT, 1);
    const bool direct = (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
    return direct ? (len / 2 + BLOCK - 1) / BLOCK * BLOCK : len / 2 + 1;
}

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    struct stat stat;
    if (is_failing(fd, false, FAIL_READS)) {
        return -1;
    }
    if (get(READ_DELAY_US) > 0 && is_meant(fd)) {
        sleep_us(get(READ_DELAY_US));
    }
    ssize_t n = real_pread(fd, buf, cut_short(fd, len), offset);
    if (n <= 0 || held_first == NULL || fstat(fd, &stat) != 0) {
        return n;
    }
    pthread_mutex_lock(&held_lock);
    for (struct held *h = held_first; h != NULL; h = h->next) {
        off_t from = h->offset > offset ? h->offset : offset;
        off_t to = h->offset + (off_t)h->len < offset + n ? h->offset + (off_t)h->len : offset + n;
        if (h->device == stat.st_dev && h->inode == stat.st_ino && from < to) {
            memcpy((uint8_t *)buf + (from - offset), h->data + (from - h->offset), (size_t)(to - from));
        }
    }
    pthread_mutex_unlock(&held_lock);
    return n;
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off_t offset)
{
    return pread(fd, buf, len, offset);
}

static int sync_with(int fd, int (*sync)(int))
{
    struct stat stat;
    bool regular = fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
    if (regular) {
        wait_while_stalled();
        if (is_failing(fd, get(FAIL) != 0, FAIL_SYNCS)) {
            if (get(FAIL) == 0) {
                (void)release(fd, true);
                errno = EIO;
            }
            return -1;
        }
        int64_t delay_us = get(WRITE_DELAY_US);
        if (delay_us > 0 && get(LOSE) != 0) {
            count(N_DELAYED, 1);
            count(WRITING, 1);
            sleep_us(delay_us);
            count(WRITING, -1);
        }
        if (release(fd, false) != 0) {
            return -1;
        }
    }
    return sync(fd);
}

EXPORT int fsync(int fd)
{
    return sync_with(fd, real_fsync);
}

EXPORT int fdatasync(int fd)
{
    return sync_with(fd, real_fdatasync);
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if ((flags & O_DIRECT) != 0 && get(NO_DIRECT) != 0) {
        errno = EINVAL;
        return -1;
    }
    return real_openat(dir, path, flags, mode);
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return openat(dir, path, flags, mode);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t len)
{
    wait_while_stalled();
    if (get(NO_SPACE) != 0 && is_meant(fd)) {
        count(N_NO_SPACE, 1);
        errno = ENOSPC;
        return -1;
    }
    return real_fallocate(fd, mode, offset, len);
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t len)
{
    return fallocate(fd, mode, offset, len);
}

EXPORT int fstatvfs(int fd, struct statvfs *stat)
{
    int rc = real_fstatvfs(fd, stat);
    if (rc == 0 && get(NO_SPACE) != 0 && get(ONLY) == ONLY_ALL) {
        count(N_NO_SPACE, 1);
        stat->f_bavail = 0;
        stat->f_bfree = 0;
    }
    return rc;
}

EXPORT int fstatvfs64(int fd, struct statvfs64 *stat)
{
    return fstatvfs(fd, (struct statvfs *)stat);
}
