#include "cmd/lockstepd/join.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstepd/small_file.h"

static const char file_name[] = "joined";
static const char request[] = "*2\r\n$8\r\nLOCKSTEP\r\n$4\r\nJOIN\r\n";

size_t join_format(const struct config *config, const unsigned char cluster[16], char text[JOIN_TEXT_MAX])
{
    char hex[33];

    for (unsigned i = 0; i < 16; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", cluster[i]);
    }
    const int n = snprintf(text, JOIN_TEXT_MAX,
                           "lockstep-join 1\ncluster %s\nelection-timeout-ms %u\nheartbeat-ms %u\n"
                           "clock-rate-error-ppm %u\nend\n",
                           hex, config->election_timeout_ms, config->heartbeat_ms, config->clock_rate_error_ppm);
    return (size_t)n;
}

bool join_parse(const char *text, struct config *config)
{
    char hex[33];
    char word[4] = "";
    unsigned election, heartbeat, rate;
    unsigned char cluster[16];

    if (sscanf(text,
               "lockstep-join 1\ncluster %32[0-9a-f]\nelection-timeout-ms %u\nheartbeat-ms %u\n"
               "clock-rate-error-ppm %u\n%3s",
               hex, &election, &heartbeat, &rate, word) != 5 ||
        strlen(hex) != 32 || strcmp(word, "end") != 0) {
        return false;
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) {
            return false;
        }
        cluster[i] = (unsigned char)byte;
    }
    memcpy(config->joined_cluster, cluster, sizeof cluster);
    config->joined = true;
    config->election_timeout_ms = election;
    config->heartbeat_ms = heartbeat;
    config->clock_rate_error_ppm = rate;
    return true;
}

/* --- Asking ----------------------------------------------------------------------------------------------------------
 */

static int dial(const char *address, char *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const struct timeval patience = {2, 0};
    char host[128], port[8];

    if (sscanf(address, "[%127[^]]]:%7[0-9]", host, port) != 2 &&
        sscanf(address, "%127[^:]:%7[0-9]", host, port) != 2) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "join: '%.200s' is not HOST:PORT", address);
        return -1;
    }
    const int rv = getaddrinfo(host, port, &hints, &found);
    if (rv != 0) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "join: %s: %s", host, gai_strerror(rv));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) {
            continue;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "join: %s: %s", address, strerror(errno));
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* One question to one member. False: `error` says why, worth another try. */
static bool ask(const char *address, char text[JOIN_TEXT_MAX], char *error)
{
    char reply[JOIN_TEXT_MAX + 16];
    size_t len = 0;
    const int fd = dial(address, error);

    if (fd < 0) {
        return false;
    }
    bool ok = send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof request - 1);
    while (ok && len < sizeof reply - 1) {
        const ssize_t n = recv(fd, reply + len, sizeof reply - 1 - len, 0);
        ok = n > 0;
        len += n > 0 ? (size_t)n : 0;
        reply[len] = '\0';
        if (reply[0] == '-' || strstr(reply, "\nend\n") != NULL) {
            break;
        }
    }
    (void)close(fd);
    reply[len] = '\0';
    const char *body = strchr(reply, '\n');
    if (!ok || reply[0] != '$' || body == NULL || strlen(body + 1) >= JOIN_TEXT_MAX) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "join: %.100s does not answer as a Lockstep node: %.100s", address,
                       len > 0 ? reply : "no answer");
        return false;
    }
    (void)snprintf(text, JOIN_TEXT_MAX, "%s", body + 1);
    return true;
}

/* --- The file --------------------------------------------------------------------------------------------------------
 */

static bool holds(const char *dir, const char *name)
{
    char path[4200];

    (void)snprintf(path, sizeof path, "%.4000s/%s", dir, name);
    return access(path, F_OK) == 0;
}

bool join_prepare(struct config *config, unsigned patience_s, char *error)
{
    char text[JOIN_TEXT_MAX];
    const time_t until = time(NULL) + (time_t)patience_s;
    const struct timespec nap = {0, 300000000};

    if (holds(config->dir, "unfinished")) {
        (void)snprintf(
            error, CONFIG_ERROR_MAX,
            "`lockstep restore` or `recover` did not finish in %.400s: remove the directory and run it again",
            config->dir);
        return false;
    }
    if (small_file_read(config->dir, file_name, text, sizeof text)) {
        if (!join_parse(text, config)) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "%.400s/%s is damaged: remove it and start with --join",
                           config->dir, file_name);
            return false;
        }
        return true;
    }
    /* A node that has run on the directory knows where it belongs, and nothing it is told now may change that. */
    if (config->join == NULL || holds(config->dir, "state")) {
        return true;
    }
    for (bool told = false; !ask(config->join, text, error); told = true) {
        if (time(NULL) >= until) {
            const size_t len = strlen(error);
            (void)snprintf(error + len, CONFIG_ERROR_MAX - len,
                           ": gave up after %u s; it has to be a member that runs, and its port for clients",
                           patience_s);
            return false;
        }
        if (!told) {
            fprintf(stderr, "lockstepd: %s: trying again for %u s\n", error, patience_s);
        }
        (void)nanosleep(&nap, NULL);
    }
    if (!join_parse(text, config)) {
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "join: the answer of %.100s is not understood: run the same version on "
                       "all nodes",
                       config->join);
        return false;
    }
    if (!small_file_write(config->dir, file_name, text)) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "join: can't write %.400s/%s: %s", config->dir, file_name,
                       strerror(errno));
        return false;
    }
    return true;
}
