/* The table of options, and storing and showing one value. */
#include "cmd/lockstepd/config.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/lockstepd/log.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define TIB (KIB * GIB)
#define PEER_PORT_DISTANCE 10000u
#define PORT_MAX 65535u

#define FIELD(field) offsetof(struct config, field)

static const struct config_option options[] = {
    {"id", CONFIG_NUMBER64, FIELD(id), 1, INT64_MAX, "1", false, "this node's id, the ID of one of the members"},
    {"dir", CONFIG_TEXT, FIELD(dir), 1, 4000, "data", false, "data directory, created if missing"},
    {"bind", CONFIG_TEXT, FIELD(bind), 1, 127, "127.0.0.1", false, "address to listen on for clients and nodes"},
    {"port", CONFIG_NUMBER32, FIELD(port), 1, PORT_MAX, "7379", false,
     "port for clients; if not given, that of this node's member line"},
    {"peer-port", CONFIG_NUMBER32, FIELD(peer_port), 0, PORT_MAX, "0", false,
     "port for other nodes; 0: that of the member line, or port + 10000"},
    {"cluster-name", CONFIG_TEXT, FIELD(cluster_name), 1, 64, "lockstep", false,
     "nodes of another name are refused; the same on all nodes"},
    {"member", CONFIG_MEMBER, FIELD(members), 0, 0, "", false,
     "ID HOST:PORT[:PEERPORT], once per node of the first start, the same lines on all nodes"},
    {"join", CONFIG_TEXT, FIELD(join), 0, 200, "", false,
     "HOST:PORT of clients of any member of a running cluster: start with an empty directory and wait to be added to "
     "it"},
    {"election-timeout-ms", CONFIG_NUMBER32, FIELD(election_timeout_ms), 20, 60000, "300", false,
     "without a leader for this long, up to twice that at random, an election starts; the same on all nodes"},
    {"heartbeat-ms", CONFIG_NUMBER32, FIELD(heartbeat_ms), 0, 20000, "0", false,
     "ms between heartbeats, at most a third of election-timeout-ms; 0: a tenth of it"},
    {"clock-rate-error-ppm", CONFIG_NUMBER32, FIELD(clock_rate_error_ppm), 1, 100000, "10000", false,
     "bound on how much faster or slower any node's clock may run, parts per million; the same on all nodes"},
    {"leases", CONFIG_BOOL, FIELD(leases), 0, 0, "yes", false,
     "answer linearizable reads from memory under leases; no: confirm each with a quorum"},
    {"read-grants", CONFIG_TEXT, FIELD(read_grants), 1, 16, "all", false,
     "who answers linearizable reads from memory: all (every replica) or leader"},
    {"read-mode", CONFIG_TEXT, FIELD(read_mode), 1, 64, "linearizable", false,
     "READMODE of new connections: linearizable, session, stale, or \"stale MAX-MS\""},
    {"rebuild", CONFIG_BOOL, FIELD(rebuild), 0, 0, "yes", true,
     "a node in quarantine makes its content anew from the leader's; no: it waits for an operator"},
    {"maxmemory", CONFIG_SIZE64, FIELD(maxmemory), 0, 1024 * TIB, "0", true,
     "logical bytes of keys and values above which growing writes get -OOM; 0: no limit"},
    {"wal-segment-size", CONFIG_SIZE64, FIELD(wal_segment_bytes), MIB, 4 * GIB, "16mb", false,
     "size of one log file, at least max-entry-size: an entry lies in one file"},
    {"snapshot-log-size", CONFIG_SIZE64, FIELD(snapshot_log_bytes), 0, 1024 * TIB, "256mb", true,
     "take a snapshot once the log since the last one is larger than this and than that one; 0: not for its size"},
    {"snapshot-age", CONFIG_NUMBER32, FIELD(snapshot_age_s), 0, 31536000, "3600", true,
     "take a snapshot when the last one is older than so many seconds and anything has changed; 0: not for its age"},
    {"snapshot-rate", CONFIG_SIZE64, FIELD(snapshot_rate), 0, TIB, "48mb", true,
     "bytes of content written to a snapshot per second: less is gentler on writers and takes longer; 0: no limit"},
    {"snapshot-transfer-rate", CONFIG_SIZE64, FIELD(snapshot_transfer_rate), 0, TIB, "64mb", true,
     "bytes of snapshots sent to other nodes per second, to all of them together: less is gentler on clients; 0: no "
     "limit"},
    {"log-keep", CONFIG_SIZE64, FIELD(log_keep_bytes), 0, 1024 * TIB, "64mb", true,
     "bytes of log kept on disk before a snapshot, for followers that are behind"},
    {"disk-reserve", CONFIG_SIZE64, FIELD(space_reserve_bytes), 0, 1024 * TIB, "64mb", false,
     "writes get -NOSPACE when less disk than this is free"},
    {"inflight-limit", CONFIG_SIZE64, FIELD(inflight_bytes), MIB, 64 * GIB, "16mb", false,
     "bytes of writes being replicated above which further ones wait"},
    {"log-tail", CONFIG_SIZE64, FIELD(log_tail_bytes), 0, 64 * GIB, "4mb", false,
     "bytes of applied log kept in memory for followers"},
    {"batch-size", CONFIG_SIZE32, FIELD(batch_bytes_max), KIB, 64 * MIB, "256kb", false,
     "target size of one log entry (a batch of commands)"},
    {"max-entry-size", CONFIG_SIZE32, FIELD(entry_bytes_max), 64 * KIB, 64 * MIB, "16mb", false,
     "largest command or transaction; each is copied several times in one go: above 16mb raise election-timeout-ms"},
    {"redirect", CONFIG_BOOL, FIELD(redirect), 0, 0, "no", true,
     "answer -MOVED to the leader instead of forwarding, as Redis Cluster does"},
    {"maxclients", CONFIG_NUMBER32, FIELD(maxclients), 1, 1000000, "10000", false, "client connections at once"},
    {"client-output-limit", CONFIG_SIZE64, FIELD(client_output_bytes), 64 * KIB, 64 * GIB, "256mb", false,
     "a client that leaves more reply bytes unread is disconnected"},
    {"client-query-buffer-limit", CONFIG_SIZE64, FIELD(client_query_bytes), MIB, 64 * GIB, "1gb", false,
     "bytes of one request"},
    {"proto-max-bulk-len", CONFIG_SIZE64, FIELD(proto_max_bulk_len), MIB, 512 * MIB, "512mb", false,
     "bytes of one argument"},
    {"timeout", CONFIG_NUMBER32, FIELD(timeout_s), 0, 31536000, "0", true,
     "seconds after which an idle client is disconnected; 0: never"},
    {"tcp-keepalive", CONFIG_NUMBER32, FIELD(tcp_keepalive_s), 0, 86400, "300", false,
     "seconds between TCP keep-alives to clients; 0: off"},
    {"enable-debug-command", CONFIG_BOOL, FIELD(enable_debug_command), 0, 0, "no", false, "allow DEBUG SLEEP"},
    {"loglevel", CONFIG_LEVEL, FIELD(loglevel), 0, 0, "info", true, "error, warning, info or debug"},
    {"logfile", CONFIG_TEXT, FIELD(logfile), 0, 4000, "", false,
     "log to this file (SIGHUP opens it anew); empty: stderr"},
    {"pidfile", CONFIG_TEXT, FIELD(pidfile), 0, 4000, "", false, "write the process id to this file; empty: none"},
};
#define OPTIONS (sizeof options / sizeof options[0])

static_assert(OPTIONS <= 64, "config.given has one bit per option");

const struct config_option *config_option_at(unsigned i)
{
    return i < OPTIONS ? &options[i] : NULL;
}

const struct config_option *config_option_find(const char *name)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static void *config_field(const struct config *config, const struct config_option *option)
{
    return (char *)(uintptr_t)config + option->offset;
}

static uint64_t config_bit(const struct config_option *option)
{
    return UINT64_C(1) << (option - options);
}

static bool config_given(const struct config *config, const char *name)
{
    const struct config_option *option = config_option_find(name);
    assert(option != NULL);
    return (config->given & config_bit(option)) != 0;
}

static bool parse_digits(const char **text, uint64_t *number)
{
    uint64_t n = 0;
    const char *c = *text;
    if (*c < '0' || *c > '9') {
        return false;
    }
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (n > (UINT64_MAX - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *text = c;
    *number = n;
    return true;
}

bool config_parse_size(const char *text, uint64_t *size)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"", 1},        {"b", 1},    {"k", 1000}, {"kb", KIB},
                 {"m", 1000000}, {"mb", MIB}, {"gb", GIB}, {"g", UINT64_C(1000) * 1000 * 1000}};
    uint64_t number;
    if (!parse_digits(&text, &number)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(text, units[i].unit) == 0) {
            if (number > UINT64_MAX / units[i].factor) {
                return false;
            }
            *size = number * units[i].factor;
            return true;
        }
    }
    return false;
}

static bool parse_port(const char *text, unsigned *port)
{
    uint64_t number;
    if (!parse_digits(&text, &number) || *text != '\0' || number == 0 || number > PORT_MAX) {
        return false;
    }
    *port = (unsigned)number;
    return true;
}

/* Cuts "HOST:PORT[:PEERPORT]" in place; false if it has another shape. */
static bool split_address(char *text, char **host, char **port, char **peer_port)
{
    char *end = text;
    *host = text;
    if (*text == '[') {
        *host = text + 1;
        end = strchr(text, ']');
        if (end == NULL) {
            return false;
        }
        *end++ = '\0';
    } else {
        end = strchr(text, ':');
    }
    if (end == NULL || *end != ':') {
        return false;
    }
    *end = '\0';
    *port = end + 1;
    *peer_port = strchr(*port, ':');
    if (*peer_port != NULL) {
        *(*peer_port)++ = '\0';
    }
    return **host != '\0';
}

bool config_parse_member(const char *text, struct config_member *member, char *error)
{
    static const char shape[] = "a member is written ID HOST:PORT[:PEERPORT], for example 1 10.0.0.1:7379 or "
                                "2 [fd00::2]:7379:17379";
    struct config_member m = {0};
    char address[192];
    char *host, *port, *peer_port;
    const char *rest = text;
    if (!parse_digits(&rest, &m.id) || m.id == 0 || m.id > INT64_MAX || (*rest != ' ' && *rest != '\t')) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "bad member '%.100s': %s", text, shape);
        return false;
    }
    rest += strspn(rest, " \t");
    if (strlen(rest) >= sizeof address || strpbrk(rest, " \t") != NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "bad member '%.100s': %s", text, shape);
        return false;
    }
    (void)snprintf(address, sizeof address, "%s", rest);
    if (!split_address(address, &host, &port, &peer_port) || strlen(host) >= sizeof m.host ||
        !parse_port(port, &m.port) || (peer_port != NULL && !parse_port(peer_port, &m.peer_port))) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "bad member '%.100s': %s", text, shape);
        return false;
    }
    if (peer_port == NULL) {
        m.peer_port = m.port + PEER_PORT_DISTANCE;
    }
    if (m.peer_port > PORT_MAX) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "bad member '%.100s': port + %u is above %u, give PEERPORT too", text,
                       PEER_PORT_DISTANCE, PORT_MAX);
        return false;
    }
    (void)snprintf(m.host, sizeof m.host, "%s", host);
    *member = m;
    return true;
}

static bool config_set_number(struct config *config, const struct config_option *option, const char *value, char *error)
{
    bool is_size = option->type == CONFIG_SIZE32 || option->type == CONFIG_SIZE64;
    uint64_t number = 0;
    const char *rest = value;
    bool ok = is_size ? config_parse_size(value, &number) : parse_digits(&rest, &number) && *rest == '\0';
    if (!ok || number < option->min || number > option->max) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "bad value '%.100s' for %s: allowed is a %s from %" PRIu64 " to %" PRIu64, value, option->name,
                       is_size ? "size (such as 64mb)" : "number", option->min, option->max);
        return false;
    }
    if (option->type == CONFIG_NUMBER32 || option->type == CONFIG_SIZE32) {
        *(uint32_t *)config_field(config, option) = (uint32_t)number;
    } else {
        *(uint64_t *)config_field(config, option) = number;
    }
    return true;
}

static bool config_set_text(struct config *config, const struct config_option *option, const char *value, char *error)
{
    size_t len = strlen(value);
    if (len < option->min || len > option->max) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "bad value for %s: allowed is a text of %" PRIu64 " to %" PRIu64 " bytes", option->name,
                       option->min, option->max);
        return false;
    }
    for (const char *c = value; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "bad value for %s: control characters are not allowed",
                           option->name);
            return false;
        }
    }
    char *copy = NULL;
    if (len > 0 && (copy = strdup(value)) == NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "out of memory");
        return false;
    }
    char **field = config_field(config, option);
    free(*field);
    *field = copy;
    return true;
}

static bool config_set_level(struct config *config, const char *value, char *error)
{
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        if (strcasecmp(value, log_level_name(level)) == 0) {
            config->loglevel = level;
            return true;
        }
    }
    (void)snprintf(error, CONFIG_ERROR_MAX, "bad value '%.100s' for loglevel: allowed are error, warning, info, debug",
                   value);
    return false;
}

static bool config_set_bool(struct config *config, const struct config_option *option, const char *value, char *error)
{
    bool yes = strcasecmp(value, "yes") == 0;
    if (!yes && strcasecmp(value, "no") != 0) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "bad value '%.100s' for %s: allowed are yes and no", value,
                       option->name);
        return false;
    }
    *(bool *)config_field(config, option) = yes;
    return true;
}

static bool config_add_member(struct config *config, const char *value, char *error)
{
    if (config->n_members == REPLICA_SERVERS_MAX) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "more than %u members", REPLICA_SERVERS_MAX);
        return false;
    }
    if (!config_parse_member(value, &config->members[config->n_members], error)) {
        return false;
    }
    config->n_members++;
    return true;
}

bool config_set(struct config *config, const struct config_option *option, const char *value, char *error)
{
    bool ok = false;
    switch (option->type) {
    case CONFIG_NUMBER32:
    case CONFIG_NUMBER64:
    case CONFIG_SIZE32:
    case CONFIG_SIZE64:
        ok = config_set_number(config, option, value, error);
        break;
    case CONFIG_BOOL:
        ok = config_set_bool(config, option, value, error);
        break;
    case CONFIG_TEXT:
        ok = config_set_text(config, option, value, error);
        break;
    case CONFIG_LEVEL:
        ok = config_set_level(config, value, error);
        break;
    case CONFIG_MEMBER:
        ok = config_add_member(config, value, error);
        break;
    }
    if (ok) {
        config->given |= config_bit(option);
    }
    return ok;
}

static size_t config_get_members(const struct config *config, char *text, size_t capacity)
{
    size_t len = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < config->n_members; i++) {
        const struct config_member *m = &config->members[i];
        bool brackets = strchr(m->host, ':') != NULL;
        int n = snprintf(text + len, capacity - len, "%s%" PRIu64 " %s%s%s:%u:%u", i == 0 ? "" : ", ", m->id,
                         brackets ? "[" : "", m->host, brackets ? "]" : "", m->port, m->peer_port);
        len += n > 0 ? (size_t)n : 0;
        if (len >= capacity) {
            return capacity - 1;
        }
    }
    return len;
}

size_t config_get(const struct config *config, const struct config_option *option, char *text, size_t capacity)
{
    assert(capacity > 0);
    const void *field = config_field(config, option);
    const char *value = NULL;
    int n = 0;
    switch (option->type) {
    case CONFIG_NUMBER32:
    case CONFIG_SIZE32:
        n = snprintf(text, capacity, "%" PRIu32, *(const uint32_t *)field);
        break;
    case CONFIG_NUMBER64:
    case CONFIG_SIZE64:
        n = snprintf(text, capacity, "%" PRIu64, *(const uint64_t *)field);
        break;
    case CONFIG_BOOL:
        n = snprintf(text, capacity, "%s", *(const bool *)field ? "yes" : "no");
        break;
    case CONFIG_TEXT:
        value = *(char *const *)field;
        n = snprintf(text, capacity, "%s", value == NULL ? "" : value);
        break;
    case CONFIG_LEVEL:
        n = snprintf(text, capacity, "%s", log_level_name(config->loglevel));
        break;
    case CONFIG_MEMBER:
        return config_get_members(config, text, capacity);
    }
    size_t len = n > 0 ? (size_t)n : 0;
    return len < capacity ? len : capacity - 1;
}

bool config_init(struct config *config)
{
    char error[CONFIG_ERROR_MAX];
    *config = (struct config){0};
    for (size_t i = 0; i < OPTIONS; i++) {
        if (options[i].type != CONFIG_MEMBER && options[i].fallback[0] != '\0' &&
            !config_set(config, &options[i], options[i].fallback, error)) {
            config_fini(config);
            return false;
        }
    }
    config->given = 0;
    return true;
}

void config_fini(struct config *config)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (options[i].type == CONFIG_TEXT) {
            char **field = config_field(config, &options[i]);
            free(*field);
            *field = NULL;
        }
    }
}

bool config_members_clash(const struct config_member *a, const struct config_member *b)
{
    return strcasecmp(a->host, b->host) == 0 &&
           (a->port == b->port || a->port == b->peer_port || a->peer_port == b->port || a->peer_port == b->peer_port);
}

static bool check_members(const struct config *config, const struct config_member **own, char *error)
{
    *own = NULL;
    for (unsigned i = 0; i < config->n_members; i++) {
        const struct config_member *a = &config->members[i];
        if (a->id == config->id) {
            *own = a;
        }
        if (a->port == a->peer_port) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "member %" PRIu64 " has the same port for clients and nodes",
                           a->id);
            return false;
        }
        for (unsigned j = 0; j < i; j++) {
            const struct config_member *b = &config->members[j];
            if (a->id == b->id) {
                (void)snprintf(error, CONFIG_ERROR_MAX, "member id %" PRIu64 " is given twice", a->id);
                return false;
            }
            if (config_members_clash(a, b)) {
                (void)snprintf(error, CONFIG_ERROR_MAX,
                               "members %" PRIu64 " and %" PRIu64 " share an address and a port", b->id, a->id);
                return false;
            }
        }
    }
    if (config->n_members > 0 && *own == NULL) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "id %" PRIu64 " is not the ID of any member", config->id);
        return false;
    }
    if (config->n_members > 1 && !config_given(config, "id")) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "id is missing: say which of the members this node is");
        return false;
    }
    return true;
}

bool config_finish(struct config *config, char *error)
{
    const struct config_member *own;
    if (config->join != NULL && config->n_members > 0) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "join and member exclude each other: a joining node learns the members "
                       "from the cluster");
        return false;
    }
    if (config->join != NULL && !config_given(config, "id")) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "id is missing: a joining node needs an id that no node ever had");
        return false;
    }
    if (!check_members(config, &own, error)) {
        return false;
    }
    if (own != NULL && !config_given(config, "port")) {
        config->port = own->port;
    }
    if (config->peer_port == 0) {
        config->peer_port = own != NULL ? own->peer_port : config->port + PEER_PORT_DISTANCE;
    }
    if (config->peer_port > PORT_MAX) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "port + %u is above %u: give peer-port", PEER_PORT_DISTANCE, PORT_MAX);
        return false;
    }
    if (config->port == config->peer_port) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "port and peer-port are both %u", config->port);
        return false;
    }
    if (config->heartbeat_ms > config->election_timeout_ms / 3) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "heartbeat-ms %" PRIu32 " is above a third of election-timeout-ms %" PRIu32
                       ": allowed is up to %" PRIu32 ", or 0 for a tenth",
                       config->heartbeat_ms, config->election_timeout_ms, config->election_timeout_ms / 3);
        return false;
    }
    if (config->heartbeat_ms == 0) {
        config->heartbeat_ms = config->election_timeout_ms / 10;
    }
    config->read_grants_all = strcmp(config->read_grants, "all") == 0;
    if (!config->read_grants_all && strcmp(config->read_grants, "leader") != 0) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "read-grants is \"%s\": allowed are all and leader",
                       config->read_grants);
        return false;
    }
    if (!read_mode_parse_text(config->read_mode, &config->read_mode_parsed)) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "read-mode is \"%s\": allowed are linearizable, session, stale, and \"stale MAX-MS\" with 1 to "
                       "%u milliseconds",
                       config->read_mode, READ_MODE_STALE_MS_MAX);
        return false;
    }
    if (config->batch_bytes_max > config->entry_bytes_max) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "batch-size %" PRIu32 " is above max-entry-size %" PRIu32,
                       config->batch_bytes_max, config->entry_bytes_max);
        return false;
    }
    return true;
}
