"""A RESP2 client that keeps the type and every byte of a reply: a status is ('+', b'OK'), an error ('-', b'ERR ...'), an
integer (':', 7), a bulk string ('$', b'...') or ('$', None), an array ('*', [...]) or ('*', None)."""
import socket


def encode(args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


class Connection:
    def __init__(self, address, timeout=60):
        self.address = address
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 16)

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, commands):
        self.socket.sendall(b"".join(encode(args) for args in commands))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"{self.address} closed the connection")
        kind, rest = chr(line[0]), line[1:-2]
        if kind in "+-":
            return kind, rest
        if kind == ":":
            return kind, int(rest)
        if kind == "$":
            if int(rest) < 0:
                return kind, None
            data = self.file.read(int(rest) + 2)
            return kind, data[:-2]
        if kind == "*":
            return kind, None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise ValueError(f"not a RESP2 reply: {line!r}")

    def ask(self, *args):
        self.send([[arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]])
        return self.read()
