/* The directory gets the file `joined` (uuid and timeouts), a snapshot, and the file `state`; meanwhile `unfinished`
 * keeps nodes from starting on it. There is no log: the node begins one behind the snapshot (docs/FORMATS.md, section
 * Restored directory).
 */
#include "cmd/lockstep/new_cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cmd/lockstep/options.h"
#include "consensus/slots.h"

#define PEER_PORT_DISTANCE 10000u

static bool node_add(struct new_cluster *c, char *text)
{
    char *equals = strchr(text, '=');
    char *colon = strrchr(text, ':'), *first = strchr(text, ':');
    struct address address;
    uint32_t peer_port = 0;
    uint64_t id;
    if (equals == NULL || c->n_nodes == REPLICA_SERVERS_MAX) {
        fprintf(stderr, "lockstep: --nodes wants 1 to %u times ID=HOST:PORT[:PEERPORT], separated by commas\n",
                REPLICA_SERVERS_MAX);
        return false;
    }
    *equals = '\0';
    const bool two = equals[1] == '[' ? colon != NULL && colon > equals && colon[-1] != ']' &&
                                            strstr(equals + 1, "]:") != NULL && strstr(equals + 1, "]:") + 1 != colon
                                      : first != NULL && first != colon;
    if (two) {
        *colon = '\0';
        if (!option_u32("the peer port in --nodes", colon + 1, 1, 65535, &peer_port)) {
            return false;
        }
    }
    if (!option_u64("the id in --nodes", text, 1, INT64_MAX, &id) || !option_address("--nodes", equals + 1, &address)) {
        return false;
    }
    peer_port = two ? peer_port : address.port + PEER_PORT_DISTANCE;
    if (peer_port > 65535) {
        fprintf(stderr, "lockstep: --nodes: port %u leaves no room for the peer port; give it as HOST:PORT:PEERPORT\n",
                address.port);
        return false;
    }
    const bool v6 = strchr(address.host, ':') != NULL;
    const int n = snprintf(c->nodes[c->n_nodes].address, sizeof c->nodes[0].address,
                           v6 ? "[%s]:%u,[%s]:%u" : "%s:%u,%s:%u", address.host, peer_port, address.host, address.port);
    c->nodes[c->n_nodes++].id = id;
    if (n >= (int)sizeof c->nodes[0].address) {
        fprintf(stderr, "lockstep: --nodes: the host name is too long\n");
    }
    return n < (int)sizeof c->nodes[0].address;
}

static unsigned servers_of(const struct new_cluster *c, struct configuration_server servers[REPLICA_SERVERS_MAX])
{
    for (unsigned i = 0; i < c->n_nodes; i++) {
        servers[i] = (struct configuration_server){c->nodes[i].id, c->nodes[i].address, true};
    }
    return c->n_nodes;
}

bool new_cluster_nodes(struct new_cluster *c, char *list)
{
    char *rest = NULL;
    struct configuration_server servers[REPLICA_SERVERS_MAX];
    for (char *one = strtok_r(list, ",", &rest); one != NULL; one = strtok_r(NULL, ",", &rest)) {
        if (!node_add(c, one)) {
            return false;
        }
    }
    if (c->n_nodes == 0 || configuration_bytes(servers, servers_of(c, servers)) == 0) {
        fprintf(stderr, "lockstep: --nodes: no node, or an id or address stands twice\n");
        return false;
    }
    return true;
}

bool new_cluster_uuid(struct new_cluster *c, const char *text)
{
    if (text == NULL) {
        return getrandom(c->uuid, sizeof c->uuid, 0) == (ssize_t)sizeof c->uuid;
    }
    if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32) {
        fprintf(stderr, "lockstep: --uuid wants 32 hexadecimal digits, as the first `lockstep restore` printed them\n");
        return false;
    }
    for (unsigned i = 0; i < sizeof c->uuid; i++) {
        const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        c->uuid[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

void new_cluster_uuid_format(const struct new_cluster *c, char text[33])
{
    for (unsigned i = 0; i < sizeof c->uuid; i++) {
        snprintf(text + 2 * i, 3, "%02x", c->uuid[i]);
    }
}

void new_cluster_settings(struct new_cluster *c, const struct content *content)
{
    const struct snapshot_meta *meta = &content->meta;
    c->settings = (struct configuration_settings){300, 30, 10000, CONFIGURATION_FEATURE_LEVEL, 0};
    if (meta->configuration_len > 0) {
        (void)configuration_check(meta->configuration, meta->configuration_len, REPLICA_SERVERS_MAX,
                                  REPLICA_ADDRESS_MAX, &c->settings);
    }
    c->settings.next_id = 0; /* a new cluster: any id may be used */
    for (unsigned i = 0; i < c->n_nodes; i++) {
        c->settings.next_id = c->nodes[i].id >= c->settings.next_id ? c->nodes[i].id + 1 : c->settings.next_id;
    }
}

bool new_cluster_dir_ok(const char *dir, char error[NEW_CLUSTER_ERROR_MAX])
{
    DIR *d = opendir(dir);
    bool empty = true;
    if (d == NULL) {
        if (errno == ENOENT) {
            return true;
        }
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "%.400s: %s", dir, strerror(errno));
        return false;
    }
    for (struct dirent *entry = readdir(d); entry != NULL && empty; entry = readdir(d)) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lock") == 0; /* of a try that was killed, or refused later */
    }
    (void)closedir(d);
    if (!empty) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX,
                 "%.400s is not empty: nothing is ever overwritten; give a directory that is empty or does not exist",
                 dir);
    }
    return empty;
}

/* Whoever starts a node on what a killed `restore` left behind must not get an empty cluster. Durable. */
static bool mark(const char *dir, bool unfinished, char error[NEW_CLUSTER_ERROR_MAX])
{
    const int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = dir_fd >= 0;
    if (ok && unfinished) {
        const int fd = openat(dir_fd, "unfinished", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        ok = fd >= 0 && close(fd) == 0;
    } else if (ok) {
        ok = unlinkat(dir_fd, "unfinished", 0) == 0;
    }
    ok = ok && fsync(dir_fd) == 0;
    if (!ok) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "can't write to the directory %.500s: %s", dir, strerror(errno));
    }
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    return ok;
}

static bool joined_write(const struct new_cluster *c, const char *dir, char error[NEW_CLUSTER_ERROR_MAX])
{
    char path[4200], text[256], uuid[33];
    new_cluster_uuid_format(c, uuid);
    snprintf(path, sizeof path, "%.4000s/joined", dir);
    const int len = snprintf(text, sizeof text,
                             "lockstep-join 1\ncluster %s\nelection-timeout-ms %u\nheartbeat-ms %u\n"
                             "clock-rate-error-ppm %u\nend\n",
                             uuid, c->settings.election_timeout_ms, c->settings.heartbeat_ms, c->settings.rho_ppm);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const bool ok = fd >= 0 && write(fd, text, (size_t)len) == len && fsync(fd) == 0;
    if (!ok) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "can't write %.500s: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return ok;
}

/* Durable: creating it syncs the directory, and so the names of the other files. */
static bool state_write(const struct new_cluster *c, const struct content *content, struct env *env,
                        char error[NEW_CLUSTER_ERROR_MAX])
{
    struct slots *slots = NULL;
    struct slots_state state = {.id = c->id, .term = content->meta.term};
    memcpy(state.cluster, c->uuid, sizeof state.cluster);
    do {
        state.incarnation = env->ops->random(env);
    } while (state.incarnation == 0);
    if (slots_create(env, &state, &slots) != SLOTS_OK) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "can't write the file `state`: is the disk full?");
        return false;
    }
    slots_close(slots);
    return true;
}

static bool snapshot_write(const struct new_cluster *c, struct content *content, struct env *env,
                           char error[NEW_CLUSTER_ERROR_MAX])
{
    struct configuration_server servers[REPLICA_SERVERS_MAX];
    const unsigned n = servers_of(c, servers);
    struct snapshot_meta meta = content->meta;
    const size_t len = configuration_bytes(servers, n);
    void *configuration = malloc(len);
    if (configuration == NULL) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "out of memory");
        return false;
    }
    configuration_encode(servers, n, &c->settings, configuration);
    memcpy(meta.cluster, c->uuid, sizeof meta.cluster);
    meta.configuration = configuration;
    meta.configuration_len = (uint32_t)len;
    meta.configuration_index = meta.index; /* as if the entry at the cut had been this change */
    meta.feature_level = c->settings.feature_level;
    const bool ok = content_write(content, env, &meta);
    if (!ok) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "%.600s", content->error);
    }
    free(configuration);
    return ok;
}

bool new_cluster_write(const struct new_cluster *c, struct content *content, const char *dir,
                       char error[NEW_CLUSTER_ERROR_MAX])
{
    const struct file_env_config config = {.dir = dir, .mode = FILE_ENV_WRITE, .lock = true};
    char why[FILE_ENV_ERROR_MAX];
    if (!new_cluster_dir_ok(dir, error)) {
        return false;
    }
    struct env *env = file_env_new(&config, why);
    if (env == NULL) {
        snprintf(error, NEW_CLUSTER_ERROR_MAX, "%s", why);
        return false;
    }
    const bool ok = mark(dir, true, error) && joined_write(c, dir, error) && snapshot_write(c, content, env, error) &&
                    state_write(c, content, env, error) && mark(dir, false, error);
    file_env_free(env);
    return ok;
}

/* "PEERHOST:PEERPORT,HOST:PORT" as flags of lockstepd. */
static void flags_print(const char *address)
{
    const char *client = strchr(address, ',') + 1, *colon = strrchr(client, ':');
    const char *peer = memrchr(address, ':', (size_t)(client - 1 - address));
    const bool v6 = client[0] == '[';
    printf(" --bind %.*s --port %s --peer-port %.*s\n", (int)(colon - client) - 2 * v6, client + v6, colon + 1,
           (int)(client - 1 - (peer + 1)), peer + 1);
}

void new_cluster_advice(const struct new_cluster *c, const char *again, const char *dir)
{
    for (unsigned i = 0; i < c->n_nodes; i++) {
        if (c->nodes[i].id == c->id) {
            printf("start it with: lockstepd --id %" PRIu64 " --dir %s", c->id, dir);
            flags_print(c->nodes[i].address);
        }
    }
    if (c->n_nodes > 1) {
        printf("make the directories of the others from the same source:\n");
    }
    for (unsigned i = 0; i < c->n_nodes; i++) {
        if (c->nodes[i].id != c->id) {
            printf("  %s --id %" PRIu64 " --to DATADIR\n", again, c->nodes[i].id);
        }
    }
}
