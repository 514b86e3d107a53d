#include "cmd/lockstep/node_status.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static bool get_u64(const json_t *object, const char *name, uint64_t *value)
{
    const json_t *field = json_object_get(object, name);
    if (!json_is_integer(field) || json_integer_value(field) < 0) {
        return false;
    }
    *value = (uint64_t)json_integer_value(field);
    return true;
}

static bool get_address(const json_t *object, const char *name, struct address *address)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && option_address(name, text, address);
}

static bool members_read(const json_t *array, struct node_status *status)
{
    size_t n = json_array_size(array);
    if (n > NODE_STATUS_MEMBERS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *object = json_array_get(array, i);
        struct node_member *member = &status->members[i];
        member->voter = json_is_true(json_object_get(object, "voter"));
        if (!get_u64(object, "id", &member->id) || !get_address(object, "address", &member->address)) {
            return false;
        }
    }
    status->n_members = (unsigned)n;
    return true;
}

static const char *const read_names[NODE_STATUS_READS] = {"local",   "waited", "confirmed", "riding",
                                                          "session", "stale",  "too_stale"};

const char *node_status_read_name(unsigned i)
{
    return read_names[i];
}

static void reads_read(const json_t *root, struct node_status *status)
{
    const char *local = json_string_value(json_object_get(root, "local_reads"));
    const json_t *reads = json_object_get(root, "reads");
    snprintf(status->local_reads, sizeof(status->local_reads), "%s", local != NULL ? local : "");
    for (unsigned i = 0; i < NODE_STATUS_READS; i++) {
        (void)get_u64(reads, read_names[i], &status->reads[i]);
    }
    (void)get_u64(root, "local_left_us", &status->local_left_us);
    (void)get_u64(root, "exposed", &status->exposed);
    (void)get_u64(root, "transfers", &status->transfers);
}

static bool status_read(const json_t *root, struct node_status *status)
{
    const char *role = json_string_value(json_object_get(root, "role"));
    if (role == NULL || strlen(role) >= sizeof(status->role)) {
        return false;
    }
    memcpy(status->role, role, strlen(role) + 1);
    reads_read(root, status);
    const char *cluster = json_string_value(json_object_get(root, "cluster"));
    snprintf(status->cluster, sizeof(status->cluster), "%s", cluster != NULL ? cluster : "");
    uint64_t port = 0;
    status->peer_port = get_u64(root, "peer_port", &port) && port <= 65535 ? (unsigned)port : 0;
    (void)get_u64(root, "feature_level", &status->feature_level);
    (void)get_u64(root, "feature_level_max", &status->feature_level_max);
    status->change_pending = json_is_true(json_object_get(root, "change_pending"));
    return get_u64(root, "id", &status->id) && get_u64(root, "term", &status->term) &&
           get_u64(root, "leader", &status->leader) && get_u64(root, "commit", &status->commit) &&
           get_u64(root, "applied", &status->applied) && get_u64(root, "last", &status->last) &&
           get_u64(root, "pid", &status->pid) && get_u64(root, "uptime_ms", &status->uptime_ms) &&
           members_read(json_object_get(root, "members"), status);
}

bool node_status_parse(const char *text, size_t len, struct node_status *status, char error[CONNECTION_ERROR_MAX])
{
    json_error_t json_error;
    json_t *root = json_loadb(text, len, 0, &json_error);
    memset(status, 0, sizeof(*status));
    bool ok = root != NULL && status_read(root, status);
    if (!ok) {
        snprintf(error, CONNECTION_ERROR_MAX, "its LOCKSTEP STATUS is not understood: %.150s",
                 root == NULL ? json_error.text : "a field is missing or of the wrong kind");
    }
    json_decref(root);
    return ok;
}

bool node_status_fetch(const struct address *address, unsigned timeout_ms, struct node_status *status,
                       char error[CONNECTION_ERROR_MAX])
{
    static const char *const words[] = {"LOCKSTEP", "STATUS"};
    struct reply_item item;
    struct connection *connection = connection_open(address, timeout_ms, true, error);
    if (connection == NULL) {
        return false;
    }
    bool ok = connection_call(connection, 2, words, &item);
    if (!ok) {
        snprintf(error, CONNECTION_ERROR_MAX, "%s", connection_error(connection));
    } else if (item.type == '-') {
        snprintf(error, CONNECTION_ERROR_MAX, "%.*s", item.len < 200 ? (int)item.len : 200, item.text);
        ok = false;
    } else {
        ok = node_status_parse(item.text, item.len, status, error);
    }
    connection_close(connection);
    return ok;
}

bool node_status_first(const struct seeds *seeds, unsigned timeout_ms, struct node_status *status, unsigned *at,
                       char error[CONNECTION_ERROR_MAX])
{
    size_t used = 0;
    error[0] = '\0';
    for (*at = 0; *at < seeds->n; (*at)++) {
        const struct address *address = &seeds->at[*at];
        char why[CONNECTION_ERROR_MAX];
        if (node_status_fetch(address, timeout_ms, status, why)) {
            return true;
        }
        const int n = snprintf(error + used, CONNECTION_ERROR_MAX - used, "%s%s:%u: %s", used > 0 ? "; " : "",
                               address->host, address->port, why);
        used += n > 0 && used + (size_t)n < CONNECTION_ERROR_MAX ? (size_t)n : 0;
    }
    return false;
}
