#include "net/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const char *listen_advice(int status)
{
    switch (status) {
    case UV_EADDRINUSE:
        return "address in use: another process listens on this port; stop it or choose another port";
    case UV_EACCES:
    case UV_EPERM:
        return "permission denied: choose a port above 1023 or grant CAP_NET_BIND_SERVICE";
    case UV_EADDRNOTAVAIL:
        return "no interface of this machine has this address; bind one that it has, or 0.0.0.0";
    case UV_EAFNOSUPPORT:
        return "this machine does not support this kind of address (IPv6 off?)";
    case UV_EMFILE:
    case UV_ENFILE:
        return "too many open files: raise the limit (ulimit -n)";
    default:
        return uv_strerror(status);
    }
}

int socket_listen(uv_tcp_t *tcp, const char *host, unsigned port, int backlog, uv_connection_cb cb, const char **error)
{
    struct sockaddr_storage address;
    unsigned flags = 0;
    *error = NULL;
    if (port > 65535) {
        *error = "a port is a number from 0 to 65535";
        return UV_EINVAL;
    }
    if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)&address) != 0) {
        if (uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)&address) != 0) {
            *error = "not a numeric IPv4 or IPv6 address";
            return UV_EINVAL;
        }
        flags = UV_TCP_IPV6ONLY; /* so that "0.0.0.0" and "::" can be bound side by side */
    }
    int status = uv_tcp_bind(tcp, (const struct sockaddr *)&address, flags);
    if (status == 0)
        status = uv_listen((uv_stream_t *)tcp, backlog, cb);
    if (status != 0)
        *error = listen_advice(status);
    return status;
}

unsigned socket_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage address;
    int len = (int)sizeof(address);
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

void socket_options(uv_tcp_t *tcp, unsigned keepalive_s)
{
    uv_os_fd_t fd;
    uv_tcp_nodelay(tcp, 1);
    if (keepalive_s == 0 || uv_tcp_keepalive(tcp, 1, keepalive_s) != 0 || uv_fileno((uv_handle_t *)tcp, &fd) != 0)
        return;
    int interval = (int)(keepalive_s / 3 > 0 ? keepalive_s / 3 : 1);
    int probes = 3;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void name_format(int status, const struct sockaddr_storage *address, char name[SOCKET_NAME_MAX])
{
    char ip[INET6_ADDRSTRLEN];
    if (status == 0 && address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
        if (uv_ip4_name(in4, ip, sizeof(ip)) == 0) {
            snprintf(name, SOCKET_NAME_MAX, "%s:%u", ip, (unsigned)ntohs(in4->sin_port));
            return;
        }
    } else if (status == 0 && address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        if (uv_ip6_name(in6, ip, sizeof(ip)) == 0) {
            snprintf(name, SOCKET_NAME_MAX, "[%s]:%u", ip, (unsigned)ntohs(in6->sin6_port));
            return;
        }
    }
    snprintf(name, SOCKET_NAME_MAX, "?:0");
}

void socket_peer_name(const uv_tcp_t *tcp, char name[SOCKET_NAME_MAX])
{
    struct sockaddr_storage address;
    int len = (int)sizeof(address);
    int status = uv_tcp_getpeername(tcp, (struct sockaddr *)&address, &len);
    name_format(status, &address, name);
}

void socket_local_name(const uv_tcp_t *tcp, char name[SOCKET_NAME_MAX])
{
    struct sockaddr_storage address;
    int len = (int)sizeof(address);
    int status = uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len);
    name_format(status, &address, name);
}
