/* Reading option values: numbers with bounds, durations, addresses. Errors go to stderr and name the option. */
#ifndef LOCKSTEP_OPTIONS_H
#define LOCKSTEP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_HOST_MAX 256
#define ADDRESS_PORT_DEFAULT 7379

struct address {
    char host[ADDRESS_HOST_MAX];
    unsigned port;
};

/* A whole number from min to max; a suffix k, m or g multiplies by 10^3, 10^6, 10^9. */
bool option_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value);
bool option_u32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *value);
bool option_double(const char *option, const char *text, double min, double max, double *value);

/* "host:port", "host", ":port", "port" or "[v6]:port"; what is missing is 127.0.0.1 and ADDRESS_PORT_DEFAULT. */
bool option_address(const char *option, const char *text, struct address *address);
/* Several, separated by commas (which are overwritten); they are added to *n, up to `max`. */
bool option_address_list(const char *option, char *list, struct address *addresses, unsigned max, unsigned *n);

#endif
