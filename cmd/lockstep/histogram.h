/* A log-linear histogram of 64-bit values (latencies in ns), in the manner of HdrHistogram: constant memory, constant
 * time to record, relative error of a percentile below 1 %. Owns nothing but itself; no locks: one writer. Ours because
 * no C histogram library is packaged where Lockstep builds (docs/DEPENDENCIES.md). */
#ifndef LOCKSTEP_HISTOGRAM_H
#define LOCKSTEP_HISTOGRAM_H

#include <stdint.h>

/* Values below 2^HISTOGRAM_SUB_BITS are exact; each further power of two is cut into half as many equal steps. */
#define HISTOGRAM_SUB_BITS 8
/* Values from 2^HISTOGRAM_MAX_BITS ns (18 minutes) on count in the last bucket; max stays exact. */
#define HISTOGRAM_MAX_BITS 40
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 2) << (HISTOGRAM_SUB_BITS - 1))

struct histogram {
    uint64_t count;
    uint64_t min, max; /* min is UINT64_MAX while empty */
    double sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value below or at which `percent` (0 to 100) of all recorded values lie; 0 if empty. Never above max. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);
double histogram_mean(const struct histogram *histogram);

#endif
