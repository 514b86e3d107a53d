/* A server that understands one feature level more than the released one, and does nothing with it: what a rolling
 * upgrade is rehearsed with. Linked in place of consensus/feature_level.c. */
#include "consensus/feature_level.h"

const uint32_t feature_level_max = 2;
