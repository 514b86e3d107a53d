/* TCP sockets as this project uses them: binding with errors that say what to do, options, and names. Owns nothing.
 * Knows nothing of protocols. Loop thread only. */
#ifndef LOCKSTEP_SOCKET_H
#define LOCKSTEP_SOCKET_H

#include <uv.h>

#include <stddef.h>

/* "[ffff:...:255.255.255.255]:65535" with the NUL. */
#define SOCKET_NAME_MAX 64u

/* Binds the initialised handle to one numeric address and listens. Returns 0 or a libuv error with *error (static
 * text) saying what to do; the caller closes the handle in both cases. */
int socket_listen(uv_tcp_t *tcp, const char *host, unsigned port, int backlog, uv_connection_cb cb, const char **error);
/* The port a listening handle is bound to, 0 if none. */
unsigned socket_port(const uv_tcp_t *tcp);
/* TCP_NODELAY; keep-alive after `keepalive_s` idle seconds, three probes a third of that apart (0: off). Best effort:
 * a connection works without them. */
void socket_options(uv_tcp_t *tcp, unsigned keepalive_s);
/* "1.2.3.4:80" or "[::1]:80", as Redis writes them; "?:0" if unknown. */
void socket_peer_name(const uv_tcp_t *tcp, char name[SOCKET_NAME_MAX]);
void socket_local_name(const uv_tcp_t *tcp, char name[SOCKET_NAME_MAX]);

#endif
