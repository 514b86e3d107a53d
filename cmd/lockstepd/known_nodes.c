#include "cmd/lockstepd/known_nodes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cmd/lockstepd/small_file.h"
#include "consensus/plant.h"

static const char file_name[] = "nodes";

/* The first two lines, "node ID INCARNATION\n" for each, and the last line. */
#define LINE_MAX 48u
#define LAST_LINE (sizeof "end 0123456789abcdef" - 1 + 1) /* of it and the line feed before it */
#define TEXT_MAX (128u + KNOWN_NODES_MAX * LINE_MAX)

struct known_nodes {
    const char *dir;
    char head[64]; /* version and cluster: the file's first two lines */
    unsigned n;
    struct known_node {
        uint64_t id, incarnation;
    } nodes[KNOWN_NODES_MAX];
};

static bool write_file(const struct known_nodes *k)
{
    char text[TEXT_MAX];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", k->head);

    for (unsigned i = 0; i < k->n; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "node %" PRIu64 " %016" PRIx64 "\n", k->nodes[i].id,
                                k->nodes[i].incarnation);
    }
    (void)snprintf(text + len, sizeof text - len, "end %016" PRIx64 "\n", (uint64_t)XXH3_64bits(text, len));
    return small_file_write(k->dir, file_name, text);
}

/* All lines behind the head; what the checksum covers was written by write_file. */
static bool parse(struct known_nodes *k, const char *text)
{
    const size_t head = strlen(k->head);
    const char *end = strstr(text, "\nend ");
    uint64_t sum;
    int used = 0;

    if (end == NULL || strlen(end) != LAST_LINE + 1 || end[LAST_LINE] != '\n' ||
        sscanf(end, "\nend %16" SCNx64, &sum) != 1) {
        return false;
    }
    end++;
    if (XXH3_64bits(text, (size_t)(end - text)) != sum || strncmp(text, k->head, head) != 0) {
        return false;
    }
    for (const char *line = text + head; line < end; line += used) {
        struct known_node *node = &k->nodes[k->n];
        if (k->n == KNOWN_NODES_MAX ||
            sscanf(line, "node %" SCNu64 " %16" SCNx64 "\n%n", &node->id, &node->incarnation, &used) != 2) {
            return false;
        }
        k->n++;
    }
    return true;
}

static void set_head(struct known_nodes *k, const uint8_t cluster[16])
{
    int len = snprintf(k->head, sizeof k->head, "lockstep-nodes 1\ncluster ");

    for (unsigned i = 0; i < 16; i++) {
        len += snprintf(k->head + len, sizeof k->head - (size_t)len, "%02x", cluster[i]);
    }
    (void)snprintf(k->head + len, sizeof k->head - (size_t)len, "\n");
}

enum known_nodes_status known_nodes_open(struct known_nodes **known, const char *dir, const uint8_t cluster[16],
                                         char *error)
{
    char text[TEXT_MAX];
    struct known_nodes *k = calloc(1, sizeof *k);

    *known = NULL;
    if (k == NULL) {
        (void)snprintf(error, KNOWN_NODES_ERROR_MAX, "out of memory");
        return KNOWN_NODES_NO_MEMORY;
    }
    k->dir = dir;
    set_head(k, cluster);
    if (!small_file_read(dir, file_name, text, sizeof text)) {
        if (errno != ENOENT) {
            (void)snprintf(error, KNOWN_NODES_ERROR_MAX, "can't read %s/%s: %s", dir, file_name, strerror(errno));
            free(k);
            return KNOWN_NODES_IO;
        }
    } else if (!parse(k, text)) {
        (void)snprintf(error, KNOWN_NODES_ERROR_MAX,
                       "%s/%s is damaged: it says which disk each other node had. If no other node has lost its data "
                       "since this one last ran, remove the file and start again; otherwise let this node join under a "
                       "fresh id with an empty directory",
                       dir, file_name);
        free(k);
        return KNOWN_NODES_DAMAGED;
    }
    *known = k;
    return KNOWN_NODES_OK;
}

void known_nodes_free(struct known_nodes *known)
{
    free(known);
}

enum known_nodes_status known_nodes_meet(struct known_nodes *known, uint64_t id, uint64_t incarnation,
                                         bool (*is_needed)(void *ctx, uint64_t id), void *ctx)
{
    for (unsigned i = 0; i < known->n; i++) {
        if (known->nodes[i].id == id) {
            return known->nodes[i].incarnation == incarnation || PLANT(PLANT_LOST_DISK) ? KNOWN_NODES_OK
                                                                                        : KNOWN_NODES_OTHER;
        }
    }
    for (unsigned i = 0; known->n == KNOWN_NODES_MAX && i < known->n; i++) {
        if (!is_needed(ctx, known->nodes[i].id)) {
            known->nodes[i] = known->nodes[--known->n];
        }
    }
    if (known->n == KNOWN_NODES_MAX) {
        return KNOWN_NODES_NO_MEMORY;
    }
    known->nodes[known->n++] = (struct known_node){id, incarnation};
    if (!write_file(known)) {
        known->n--;
        return KNOWN_NODES_IO;
    }
    return KNOWN_NODES_OK;
}
