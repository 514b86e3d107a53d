/* A directory of its own for each test: temp_dir is its path, temp_dir_make and temp_dir_remove the fixture. */
#ifndef LOCKSTEP_TESTS_TEMP_DIR_H
#define LOCKSTEP_TESTS_TEMP_DIR_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static char temp_dir[64];

static void temp_dir_make(void)
{
    snprintf(temp_dir, sizeof temp_dir, "/tmp/lockstep-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(temp_dir));
}

static void temp_dir_remove(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", temp_dir);
    ck_assert_int_eq(system(command), 0);
}

#endif
