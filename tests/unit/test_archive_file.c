/* Archive files: read back as written, continued after a crash, and no damage goes unnoticed. */
#include "cmd/lockstep/archive_file.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/golden.h"

#define FIRST 41u

/* The linker sends the reads of the code under test through here. */
size_t __real_fread(void *to, size_t size, size_t n, FILE *file);
size_t __wrap_fread(void *to, size_t size, size_t n, FILE *file);

static unsigned reads_left = UINT_MAX; /* before the disk reports errors */

size_t __wrap_fread(void *to, size_t size, size_t n, FILE *file)
{
    if (reads_left > 0) {
        reads_left--;
        return __real_fread(to, size, n, file);
    }
    const int broken = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* reading a directory is an error */
    ck_assert_int_ge(broken, 0);
    ck_assert_int_ge(dup2(broken, fileno(file)), 0);
    ck_assert_int_eq(close(broken), 0);
    return __real_fread(to, size, n, file);
}

static char dir[64];
static char path[128];
static char error[ARCHIVE_ERROR_MAX];
static const struct archive_head head = {
    .cluster = "0123456789abcde", .first_index = FIRST, .prev_term = 2, .salt = 0x0123456789abcdef};

static void setup(void)
{
    char name[ARCHIVE_NAME_BYTES];
    snprintf(dir, sizeof dir, "/tmp/test-archive-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    archive_name_format(name, FIRST);
    snprintf(path, sizeof path, "%s/%s", dir, name);
}

static void teardown(void)
{
    (void)unlink(path);
    (void)rmdir(dir);
}

/* Entry i of a file: its data follows from the index. */
static struct wal_entry entry_of(uint64_t index, uint8_t data[100])
{
    memset(data, (int)(index * 37 % 251), 100);
    return (struct wal_entry){
        .index = index, .term = 2 + index / 44, .type = WAL_COMMAND, .data = data, .len = index * 11 % 100};
}

static void add(struct archive_writer *writer, uint64_t from, uint64_t to)
{
    uint8_t data[100];
    for (uint64_t i = from; i <= to; i++) {
        const struct wal_entry entry = entry_of(i, data);
        ck_assert_msg(archive_writer_add(writer, &entry, error), "%s", error);
    }
}

static void write_file(uint64_t to, bool seal)
{
    struct archive_writer *writer = archive_writer_create(dir, &head, error);
    ck_assert_msg(writer != NULL, "%s", error);
    add(writer, FIRST, to);
    ck_assert(archive_writer_sync(writer, error));
    ck_assert(archive_writer_close(writer, seal, error));
}

/* Reads all; gives how it ended, and the last index. */
static enum archive_end read_file(uint64_t *last)
{
    struct archive_reader *reader = archive_reader_open(path, error);
    struct wal_entry entry;
    enum archive_end end = ARCHIVE_DAMAGED;
    uint8_t data[100];
    *last = FIRST - 1;
    if (reader == NULL) {
        return end;
    }
    while ((end = archive_reader_next(reader, &entry)) == ARCHIVE_MORE) {
        const struct wal_entry expected = entry_of(++*last, data);
        ck_assert_uint_eq(entry.index, expected.index);
        ck_assert_uint_eq(entry.term, expected.term);
        ck_assert_uint_eq(entry.len, expected.len);
        ck_assert(entry.len == 0 || memcmp(entry.data, data, entry.len) == 0);
    }
    archive_reader_close(reader);
    return end;
}

START_TEST(entries_come_back)
{
    uint64_t last;
    write_file(60, true);
    ck_assert_int_eq(read_file(&last), ARCHIVE_SEALED);
    ck_assert_uint_eq(last, 60);
}
END_TEST

START_TEST(a_torn_end_is_cut_and_continued)
{
    struct stat st;
    uint64_t last;
    write_file(60, false);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(read_file(&last), ARCHIVE_OPEN);
    for (off_t cut = st.st_size - 1; cut > st.st_size - 200; cut -= 7) {
        uint64_t next, term;
        ck_assert_int_eq(truncate(path, cut), 0);
        const enum archive_end end = read_file(&last);
        ck_assert(end == ARCHIVE_TORN || end == ARCHIVE_OPEN);
        struct archive_writer *writer = archive_writer_resume(dir, FIRST, &next, &term, error);
        ck_assert_msg(writer != NULL, "%s", error);
        ck_assert_uint_eq(next, last + 1);
        add(writer, next, 60);
        ck_assert(archive_writer_close(writer, false, error));
        ck_assert_int_eq(read_file(&last), ARCHIVE_OPEN);
        ck_assert_uint_eq(last, 60);
    }
}
END_TEST

START_TEST(a_sealed_file_is_not_continued)
{
    uint64_t next, term;
    write_file(60, true);
    ck_assert_ptr_null(archive_writer_resume(dir, FIRST, &next, &term, error));
    ck_assert_str_eq(error, "");
    ck_assert_uint_eq(next, 61);
    ck_assert_uint_eq(term, 3);
}
END_TEST

/* Of a sealed file every bit counts: it is damaged, or, in the seal and the entry before it, not known to be whole. */
START_TEST(every_flipped_bit_is_noticed)
{
    uint64_t last;
    struct stat st;
    write_file(45, true);
    ck_assert_int_eq(stat(path, &st), 0);
    FILE *file = fopen(path, "r+");
    ck_assert_ptr_nonnull(file);
    for (long i = 0; i < st.st_size * 8; i += 3) {
        (void)fseek(file, i / 8, SEEK_SET);
        const int byte = fgetc(file);
        (void)fseek(file, i / 8, SEEK_SET);
        (void)fputc(byte ^ 1 << i % 8, file);
        (void)fflush(file);
        ck_assert_int_ne(read_file(&last), ARCHIVE_SEALED);
        (void)fseek(file, i / 8, SEEK_SET);
        (void)fputc(byte, file);
    }
    (void)fclose(file);
    ck_assert_int_eq(read_file(&last), ARCHIVE_SEALED);
}
END_TEST

START_TEST(damage_before_whole_entries_is_no_torn_end)
{
    uint64_t last;
    write_file(60, false);
    FILE *file = fopen(path, "r+");
    ck_assert_ptr_nonnull(file);
    (void)fseek(file, 64 + 48 + 8, SEEK_SET); /* inside the second record */
    (void)fputc(0xee, file);
    (void)fclose(file);
    ck_assert_int_eq(read_file(&last), ARCHIVE_DAMAGED);
}
END_TEST

START_TEST(entries_out_of_order_are_refused)
{
    uint8_t data[100];
    struct archive_writer *writer = archive_writer_create(dir, &head, error);
    ck_assert_ptr_nonnull(writer);
    struct wal_entry entry = entry_of(FIRST + 1, data);
    ck_assert(!archive_writer_add(writer, &entry, error));
    entry = entry_of(FIRST, data);
    entry.term = 1; /* below that of the entry before the file */
    ck_assert(!archive_writer_add(writer, &entry, error));
    ck_assert(archive_writer_close(writer, false, error));
}
END_TEST

START_TEST(names_are_told_apart)
{
    uint64_t index;
    ck_assert(archive_name_parse("entries-00000000000000ff", &index));
    ck_assert_uint_eq(index, 255);
    ck_assert(!archive_name_parse("entries-00000000000000FF", &index));
    ck_assert(!archive_name_parse("entries-ff", &index));
    ck_assert(!archive_name_parse("snapshot-00000000000000ff", &index));
    ck_assert(!archive_name_parse("entries-00000000000000ff.tmp", &index));
}
END_TEST

#define GOLDEN_LAST 45u

START_TEST(a_file_has_the_bytes_of_the_golden_file)
{
    uint8_t golden[4096], bytes[4096];
    const size_t n = golden_read("archive-v1.hex", golden, sizeof golden);
    write_file(GOLDEN_LAST, true);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, file), n);
    (void)fclose(file);
    ck_assert_mem_eq(bytes, golden, n);
}
END_TEST

START_TEST(the_golden_file_is_still_read)
{
    uint8_t golden[4096];
    uint64_t last;
    const size_t n = golden_read("archive-v1.hex", golden, sizeof golden);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(golden, 1, n, file), n);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(read_file(&last), ARCHIVE_SEALED);
    ck_assert_uint_eq(last, GOLDEN_LAST);
    struct archive_reader *reader = archive_reader_open(path, error);
    ck_assert_ptr_nonnull(reader);
    ck_assert_mem_eq(archive_reader_head(reader), &head, sizeof head);
    archive_reader_close(reader);
}
END_TEST

START_TEST(salts_are_random)
{
    const struct archive_head unsalted = {.cluster = "0123456789abcde", .first_index = FIRST, .prev_term = 2};
    uint64_t salts[2];
    for (unsigned i = 0; i < 2; i++) {
        struct archive_writer *writer = archive_writer_create(dir, &unsalted, error);
        ck_assert_ptr_nonnull(writer);
        ck_assert(archive_writer_close(writer, false, error));
        struct archive_reader *reader = archive_reader_open(path, error);
        ck_assert_ptr_nonnull(reader);
        salts[i] = archive_reader_head(reader)->salt;
        archive_reader_close(reader);
        (void)unlink(path);
    }
    ck_assert_uint_ne(salts[0], salts[1]);
}
END_TEST

/* A disk that is full, or a crash, in the middle of it: the next `lockstep archive` must find what was there before. */
START_TEST(a_file_appears_with_its_header_or_not_at_all)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit full = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    struct archive_writer *writer = archive_writer_create(dir, &head, error);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    (void)signal(SIGXFSZ, before);
    ck_assert_ptr_null(writer);
    ck_assert_int_ne(access(path, F_OK), 0);
    write_file(60, false); /* there is space again */
    uint64_t last;
    ck_assert_int_eq(read_file(&last), ARCHIVE_OPEN);
    ck_assert_uint_eq(last, 60);
}
END_TEST

#define LONG_LAST (FIRST + 2000u)

/* Else a restore would leave out the rest without a word. */
START_TEST(a_disk_error_is_not_the_end)
{
    struct wal_entry entry;
    unsigned n = 0;
    write_file(LONG_LAST, false);
    struct archive_reader *reader = archive_reader_open(path, error);
    ck_assert_ptr_nonnull(reader);
    reads_left = 100;
    enum archive_end end;
    while ((end = archive_reader_next(reader, &entry)) == ARCHIVE_MORE) {
        n++;
    }
    reads_left = UINT_MAX;
    ck_assert_uint_lt(n, LONG_LAST - FIRST); /* what is in a buffer still comes */
    ck_assert_int_eq(end, ARCHIVE_DAMAGED);
    ck_assert_ptr_nonnull(strstr(archive_reader_error(reader), "can't be read"));
    archive_reader_close(reader);
}
END_TEST

START_TEST(nothing_is_cut_off_because_of_a_disk_error)
{
    uint64_t next, term, last;
    struct stat before, after;
    write_file(LONG_LAST, false);
    ck_assert_int_eq(stat(path, &before), 0);
    for (unsigned reads = 0; reads < 300; reads += 7) {
        reads_left = reads;
        ck_assert_ptr_null(archive_writer_resume(dir, FIRST, &next, &term, error));
        reads_left = UINT_MAX;
        ck_assert_str_ne(error, "");
        ck_assert_int_eq(stat(path, &after), 0);
        ck_assert_int_eq(after.st_size, before.st_size);
    }
    ck_assert_int_eq(read_file(&last), ARCHIVE_OPEN);
    ck_assert_uint_eq(last, LONG_LAST);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_file");
    TCase *tc = tcase_create("file");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, entries_come_back);
    tcase_add_test(tc, a_torn_end_is_cut_and_continued);
    tcase_add_test(tc, a_sealed_file_is_not_continued);
    tcase_add_test(tc, every_flipped_bit_is_noticed);
    tcase_add_test(tc, damage_before_whole_entries_is_no_torn_end);
    tcase_add_test(tc, entries_out_of_order_are_refused);
    tcase_add_test(tc, names_are_told_apart);
    tcase_add_test(tc, a_file_has_the_bytes_of_the_golden_file);
    tcase_add_test(tc, the_golden_file_is_still_read);
    tcase_add_test(tc, salts_are_random);
    tcase_add_test(tc, a_file_appears_with_its_header_or_not_at_all);
    tcase_add_test(tc, a_disk_error_is_not_the_end);
    tcase_add_test(tc, nothing_is_cut_off_because_of_a_disk_error);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
