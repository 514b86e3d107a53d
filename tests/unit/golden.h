/* Reading tests/golden/: bytes that formats are pinned by. */
#ifndef LOCKSTEP_TESTS_GOLDEN_H
#define LOCKSTEP_TESTS_GOLDEN_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* NULL is a failure of the test. The caller closes it. */
static FILE *golden_open(const char *name)
{
    char path[512];
    const char *end = strstr(__FILE__, "unit/golden.h");
    ck_assert_ptr_nonnull(end);
    snprintf(path, sizeof path, "%.*sgolden/%s", (int)(end - __FILE__), __FILE__, name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "can't read %s", path);
    return file;
}

/* Hex bytes; "xx*n" stands for n of them; # begins a comment. Returns how many there are, at most `max`. */
__attribute__((unused)) static size_t golden_read(const char *name, uint8_t *bytes, size_t max)
{
    FILE *file = golden_open(name);
    char line[512];
    size_t n = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "#\n")] = '\0';
        unsigned byte;
        int used;
        for (const char *at = line; sscanf(at, " %2x%n", &byte, &used) == 1; at += used) {
            unsigned times = 1;
            int more = 0;
            if (at[used] == '*' && sscanf(at + used, "*%u%n", &times, &more) == 1) {
                used += more;
            }
            ck_assert_uint_le(times, max - n);
            memset(bytes + n, (int)byte, times);
            n += times;
        }
    }
    fclose(file);
    ck_assert_uint_gt(n, 0);
    return n;
}

#endif
