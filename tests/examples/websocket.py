"""websocket.py HOST PORT CA TOKEN PATH: sends two texts over a WebSocket in TLS, each after the echo of the one before."""

import base64
import os
import socket
import ssl
import sys

host, port, authority, token, path = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.set_alpn_protocols(["http/1.1"])
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 10), server_hostname=host) as tls:
    tls.settimeout(10)
    key = base64.b64encode(os.urandom(16)).decode()
    tls.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    stream = tls.makefile("rb")
    status = stream.readline().split()[1]
    if status != b"101":
        sys.exit(f"status {status.decode()}")
    while stream.readline().strip():
        pass
    for text in (b"one", b"and two"):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        tls.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
        head = stream.read(2)
        echo = stream.read(head[1] & 0x7F)
        if echo != text:
            sys.exit(f"{echo!r} instead of {text!r}")
