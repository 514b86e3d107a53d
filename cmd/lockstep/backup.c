/* `lockstep backup`: the content of a running cluster as one file. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cmd/lockstep/artifact.h"
#include "cmd/lockstep/command.h"
#include "cmd/lockstep/content.h"
#include "cmd/lockstep/fetch.h"

#define TIMEOUT_MS_DEFAULT 5000

static const char usage_text[] =
    "Usage: lockstep backup FILE [OPTION]...\n"
    "Copy the content of a running cluster to FILE, while it serves. The backup holds everything that was "
    "acknowledged\n"
    "before the command began. FILE must not exist; it appears complete, verified and synced, or not at all. "
    "Interrupted,\n"
    "FILE.part stays, and the same command goes on with it as long as a node still has that snapshot; it is then as "
    "old\n"
    "as the first attempt (remove FILE.part for a newer one).\n"
    "\n"
    "  --addr HOST:PORT[,...]  nodes to ask for the members, the first that answers counts (default 127.0.0.1:7379, "
    "then\n"
    "                          :7380 and :7381). A follower does the work if there is one\n"
    "  --exactly               the work is done by the node at --addr itself\n"
    "  --timeout-ms T          for connecting and for each answer but the first, which takes as long as the snapshot\n"
    "                          (default 5000)\n"
    "  --json                  print what was backed up as one object\n"
    "  --quiet                 no progress line\n"
    "  --help                  show this\n"
    "\n"
    "See also: lockstep verify FILE, lockstep restore FILE, and lockstep archive for restoring to any revision.\n"
    "Exit codes: 0 FILE is complete; 1 failed, and the message says why; 2 wrong command line.\n";

struct backup {
    const char *file;
    struct seeds seeds;
    struct fetch fetch;
    bool exactly, json;
};

/* Index and term of FILE.part, if it holds a header. */
static bool part_of(const char *file, uint64_t *index, uint64_t *term)
{
    char path[PATH_MAX];
    struct snapshot_meta meta;
    bool ok = false;
    snprintf(path, sizeof path, "%s.part", file);
    FILE *part = fopen(path, "re");
    uint8_t *header = malloc(SNAPSHOT_HEADER_BYTES_MAX);
    if (part != NULL && header != NULL) {
        const size_t n = fread(header, 1, SNAPSHOT_HEADER_BYTES_MAX, part);
        for (size_t len = ENV_BLOCK; len <= n && !ok; len += ENV_BLOCK) {
            ok = snapshot_header_check(header, len, &meta) == SNAPSHOT_OK;
        }
        *index = ok ? meta.index : 0;
        *term = ok ? meta.term : 0;
    }
    if (part != NULL) {
        (void)fclose(part);
    }
    free(header);
    return ok;
}

/* What the finished file says of itself. */
static int done_print(const struct backup *b, struct env *env)
{
    struct content content;
    const struct fetch *f = &b->fetch;
    if (!content_read(&content, env, "snapshot", CONTENT_HEADERS, NULL)) {
        fprintf(stderr, "lockstep backup: %s\n", content.error);
        content_fini(&content);
        return EXIT_FAILED;
    }
    const struct snapshot_meta *m = &content.meta;
    char digest[17];
    snprintf(digest, sizeof digest, "%016" PRIx64, content.end.digest);
    if (b->json) {
        json_t *o =
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:I, s:b}", "file", b->file, "index",
                      (json_int_t)m->index, "term", (json_int_t)m->term, "revision", (json_int_t)m->revision, "time_ms",
                      (json_int_t)m->cluster_time_ms, "bytes", (json_int_t)content.end.file_bytes, "digest", digest,
                      "host", f->address.host, "port", (json_int_t)f->address.port, "resumed", f->resumed);
        json_dumpf(o, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(o);
    } else {
        printf("%s: revision %" PRIu64 ", entry %" PRIu64 ", %" PRIu64 " bytes, digest %s, from %s:%u%s\n", b->file,
               m->revision, m->index, content.end.file_bytes, digest, f->address.host, f->address.port,
               f->resumed ? " (continued)" : "");
    }
    content_fini(&content);
    return EXIT_OK;
}

static int backup_run(struct backup *b)
{
    const struct file_env_config config = {.file = b->file, .mode = FILE_ENV_WRITE};
    char error[FILE_ENV_ERROR_MAX];
    struct stat st;
    uint64_t index, term;
    int code = EXIT_FAILED;
    if (stat(b->file, &st) == 0) {
        fprintf(stderr, "lockstep backup: %s exists: a backup never replaces a file; give another name\n", b->file);
        return EXIT_FAILED;
    }
    struct env *env = file_env_new(&config, error);
    if (env == NULL) {
        fprintf(stderr, "lockstep backup: %s\n", error);
        return EXIT_FAILED;
    }
    const bool found = part_of(b->file, &index, &term) && fetch_find(&b->fetch, &b->seeds, index, term);
    if ((found || fetch_take(&b->fetch, &b->seeds, b->exactly)) && fetch_run(&b->fetch, env)) {
        code = done_print(b, env);
    } else {
        fprintf(stderr, "lockstep backup: %s\n", b->fetch.error);
    }
    file_env_free(env);
    return code;
}

int command_backup(int argc, char **argv)
{
    struct backup b = {.fetch = {.timeout_ms = TIMEOUT_MS_DEFAULT}};
    const struct option_rule rules[] = {{.name = "addr", .seeds = &b.seeds},
                                        {.name = "exactly", .flag = &b.exactly},
                                        {.name = "timeout-ms", .u32 = &b.fetch.timeout_ms, .min = 1, .max = 3600000},
                                        {.name = "json", .flag = &b.json},
                                        {.name = "quiet", .flag = &b.fetch.quiet},
                                        {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "FILE", .operands_min = 1, .operands_max = 1};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    b.file = argv[optind];
    if (strlen(b.file) + 8 >= PATH_MAX) {
        fprintf(stderr, "lockstep backup: the path of FILE is too long\n");
        return EXIT_USAGE;
    }
    return backup_run(&b);
}
