/* The bytes of a configuration entry: the servers as the consensus core encodes them, and behind that the settings that
 * all nodes must share. Pure; knows the core's encoding, not the core. Every length is checked, since the core itself
 * decodes without looking at bounds. Format: docs/FORMATS.md, section Configuration entry. */
#ifndef LOCKSTEP_CONFIGURATION_H
#define LOCKSTEP_CONFIGURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What leases and elections rest on: the same on every node of the cluster. */
struct configuration_settings {
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    uint32_t rho_ppm;
    uint32_t feature_level; /* consensus/feature_level.h */
    uint64_t next_id;       /* lowest id that no server has ever had */
};

/* What a new cluster begins with, whatever its first nodes understand: their first entries must be equal. */
#define CONFIGURATION_FEATURE_LEVEL 1u
#define CONFIGURATION_SETTINGS_BYTES 40u

/* Write the settings behind the servers (CONFIGURATION_SETTINGS_BYTES). */
void configuration_settings_encode(const struct configuration_settings *settings, void *out);
/* Check a whole entry; fills in the settings. False: malformed. `servers_max` bounds the number of servers and
 * `address_max` the bytes of an address. */
bool configuration_check(const void *data, size_t len, unsigned servers_max, size_t address_max,
                         struct configuration_settings *settings);

/* One server as the entry names it. */
struct configuration_server {
    uint64_t id;
    const char *address;
    bool voter;
};
/* The servers of a checked entry, in its order; their addresses point into it. Gives their number, at most
 * `servers_max`. */
unsigned configuration_servers(const void *data, struct configuration_server *servers, unsigned servers_max);
/* Bytes of the entry with these servers; 0: an id is 0, or an id or address stands twice. */
size_t configuration_bytes(const struct configuration_server *servers, unsigned n);
/* Write a whole entry (configuration_bytes, not 0). */
void configuration_encode(const struct configuration_server *servers, unsigned n,
                          const struct configuration_settings *settings, void *out);

#endif
