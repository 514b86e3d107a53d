#include "consensus/configuration.h"

#include <assert.h>
#include <string.h>

/* The core's encoding: format u8, number of servers u64, then each: id u64, address with NUL, role u8; zero-padded
 * to 8. */
#define CORE_FORMAT 1u
#define CORE_ROLE_MAX 2u

struct wire_settings {
    char magic[8];
    uint32_t version;
    uint32_t election_timeout_ms, heartbeat_ms, rho_ppm, feature_level;
    uint32_t reserved;
    uint64_t next_id;
};
static_assert(sizeof(struct wire_settings) == CONFIGURATION_SETTINGS_BYTES, "entry format");

static const char settings_magic[8] = "SETTINGS";

void configuration_settings_encode(const struct configuration_settings *s, void *out)
{
    struct wire_settings w = {.version = 1,
                              .election_timeout_ms = s->election_timeout_ms,
                              .heartbeat_ms = s->heartbeat_ms,
                              .rho_ppm = s->rho_ppm,
                              .feature_level = s->feature_level,
                              .next_id = s->next_id};

    memcpy(w.magic, settings_magic, sizeof w.magic);
    memcpy(out, &w, sizeof w);
}

/* Bytes of one server at `at`; 0: malformed. */
static size_t server_bytes(const uint8_t *at, size_t left, size_t address_max)
{
    uint64_t id;

    if (left < sizeof id) {
        return 0;
    }
    memcpy(&id, at, sizeof id);
    const uint8_t *address = at + sizeof id;
    const uint8_t *end = memchr(address, 0, left - sizeof id);
    if (id == 0 || end == NULL || (size_t)(end - address) > address_max) {
        return 0;
    }
    const size_t bytes = (size_t)(end + 1 - at) + 1;
    return bytes <= left && end[1] <= CORE_ROLE_MAX ? bytes : 0;
}

bool configuration_check(const void *data, size_t len, unsigned servers_max, size_t address_max,
                         struct configuration_settings *settings)
{
    const uint8_t *bytes = data;
    struct wire_settings w;
    uint64_t n;
    size_t at = 1 + sizeof n;

    if (len < at + sizeof w || bytes[0] != CORE_FORMAT) {
        return false;
    }
    len -= sizeof w;
    memcpy(&n, bytes + 1, sizeof n);
    if (n == 0 || n > servers_max) {
        return false;
    }
    for (uint64_t i = 0; i < n; i++) {
        const size_t taken = server_bytes(bytes + at, len - at, address_max);
        if (taken == 0) {
            return false;
        }
        at += taken;
    }
    if (((at + 7) & ~(size_t)7) != len) {
        return false;
    }
    memcpy(&w, bytes + len, sizeof w);
    if (memcmp(w.magic, settings_magic, sizeof w.magic) != 0 || w.version != 1 || w.reserved != 0) {
        return false;
    }
    *settings =
        (struct configuration_settings){w.election_timeout_ms, w.heartbeat_ms, w.rho_ppm, w.feature_level, w.next_id};
    return true;
}
