#include "consensus/feature_level.h"

/* 1: everything so far. In a file of its own, so that a test can link a binary of another level. */
const uint32_t feature_level_max = 1;
