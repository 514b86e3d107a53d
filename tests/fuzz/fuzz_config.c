/* The configuration file: any bytes give values within their bounds or an error with file name and line. */
#include <assert.h>
#include <string.h>

#include "cmd/lockstepd/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    char error[CONFIG_ERROR_MAX];
    char value[CONFIG_ERROR_MAX];
    const struct config_option *option;
    if (!config_init(&config)) {
        return 0;
    }
    bool ok = config_read_text(&config, "fuzz.conf", (const char *)data, size, error);
    if (!ok) {
        assert(strncmp(error, "fuzz.conf:", 10) == 0);
    }
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        assert(config_get(&config, option, value, sizeof value) < sizeof value);
    }
    assert(config.n_members <= REPLICA_SERVERS_MAX);
    if (ok && config_finish(&config, error)) {
        assert(config.port >= 1 && config.port <= 65535);
        assert(config.peer_port >= 1 && config.peer_port <= 65535);
        assert(config.heartbeat_ms <= config.election_timeout_ms / 3);
    }
    config_fini(&config);
    return 0;
}
