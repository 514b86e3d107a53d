#include "consensus/configuration.h"

#include <assert.h>
#include <string.h>

/* The core's encoding: format u8, number of servers u64, then each: id u64, address with NUL, role u8; zero-padded
 * to 8. */
#define CORE_FORMAT 1u
#define CORE_ROLE_STANDBY 0u
#define CORE_ROLE_VOTER 1u
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

unsigned configuration_servers(const void *data, struct configuration_server *servers, unsigned servers_max)
{
    const uint8_t *at = data;
    uint64_t n;

    memcpy(&n, at + 1, sizeof n);
    at += 1 + sizeof n;
    const unsigned taken = n < servers_max ? (unsigned)n : servers_max;
    for (unsigned i = 0; i < taken; i++) {
        struct configuration_server *s = &servers[i];
        memcpy(&s->id, at, sizeof s->id);
        s->address = (const char *)at + sizeof s->id;
        at += sizeof s->id + strlen(s->address) + 1;
        s->voter = *at++ == CORE_ROLE_VOTER;
    }
    return taken;
}

size_t configuration_bytes(const struct configuration_server *servers, unsigned n)
{
    size_t bytes = 1 + sizeof(uint64_t);

    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++) {
            if (servers[k].id == servers[i].id || strcmp(servers[k].address, servers[i].address) == 0) {
                return 0;
            }
        }
        if (servers[i].id == 0) {
            return 0;
        }
        bytes += sizeof servers[i].id + strlen(servers[i].address) + 2;
    }
    return ((bytes + 7) & ~(size_t)7) + CONFIGURATION_SETTINGS_BYTES;
}

void configuration_encode(const struct configuration_server *servers, unsigned n,
                          const struct configuration_settings *settings, void *out)
{
    const size_t bytes = configuration_bytes(servers, n) - CONFIGURATION_SETTINGS_BYTES;
    const uint64_t count = n;
    uint8_t *at = out;

    memset(out, 0, bytes);
    *at++ = CORE_FORMAT;
    memcpy(at, &count, sizeof count);
    at += sizeof count;
    for (unsigned i = 0; i < n; i++) {
        const size_t len = strlen(servers[i].address) + 1;
        memcpy(at, &servers[i].id, sizeof servers[i].id);
        memcpy(at + sizeof servers[i].id, servers[i].address, len);
        at += sizeof servers[i].id + len;
        *at++ = servers[i].voter ? CORE_ROLE_VOTER : CORE_ROLE_STANDBY;
    }
    configuration_settings_encode(settings, (uint8_t *)out + bytes);
}
