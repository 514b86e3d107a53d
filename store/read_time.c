/* The time that replies of reads count down to, while the store's own time waits for the next entry. */
#include "store/state.h"

void store_set_read_time(struct store *store, uint64_t time_ms)
{
    store->read_time_ms = time_ms;
}

uint64_t keyspace_read_time_ms(const struct store *store)
{
    return store->read_time_ms > store->time_ms ? store->read_time_ms : store->time_ms;
}
