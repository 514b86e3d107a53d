/* Content as it was at one point: out of a backup, an archive, or the data directory of a node that does not run. */
#ifndef LOCKSTEP_POINT_H
#define LOCKSTEP_POINT_H

#include "cmd/lockstep/content.h"

#define POINT_ERROR_MAX 1200

struct point {
    bool by_revision, by_time; /* at most one; neither: the newest there is */
    uint64_t revision;
    uint64_t time_ms; /* entries of a later cluster time are left out */
};

/* Fill in `content` (content_fini in any case). False: `error` says why and what to do. `progress` may be NULL. */
bool point_load(const char *path, const struct point *point, struct content *content, char error[POINT_ERROR_MAX],
                void (*progress)(uint64_t done, uint64_t of));
/* Milliseconds since 1970 as they are, or YYYY-MM-DDTHH:MM:SS[.mmm]Z. False: neither. */
bool point_parse_time(const char *text, uint64_t *ms);
void point_format_time(char text[40], uint64_t ms);

#endif
