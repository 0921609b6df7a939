"""An outbound proxy that stands in for the internet: whatever host is asked for, the answers come from one server.

`proxy.py SERVER FOLDER` listens on a port of 127.0.0.1 that the system picks and says `listening on …` on standard
output. It demands the user and password of PROXY_USER (`name:password`) on every CONNECT, ends the TLS of any host with
a certificate that it makes for that host, and passes what is said on to SERVER (`127.0.0.1:PORT`). The authority that
vouches for the certificates is written to FOLDER/ca.pem.
"""

import base64
import datetime
import os
import pathlib
import select
import socket
import ssl
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HEAD = 16 * 1024
server, folder = sys.argv[1], pathlib.Path(sys.argv[2])
server = (server.rsplit(":", 1)[0], int(server.rsplit(":", 1)[1]))
credentials = "basic " + base64.b64encode(os.environ["PROXY_USER"].encode()).decode()
key = ec.generate_private_key(ec.SECP256R1())
contexts = {}
making = threading.Lock()


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, *extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named("authority of scripts/e2e"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def context(host):
    with making:
        if host not in contexts:
            path = folder / f"proxy-{len(contexts)}.pem"
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
            secret = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            path.touch(mode=0o600)
            path.write_bytes(secret + certificate("a host", (names, False), (authority, False)))
            contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            contexts[host].load_cert_chain(path)
        return contexts[host]


def carry(client, upstream):
    """One thread for both directions: a TLS connection must not be read and written at the same time."""
    while True:
        # What TLS has decrypted already makes no socket readable.
        ready = [client] if client.pending() else select.select([client, upstream], [], [])[0]
        for source, sink in ((client, upstream), (upstream, client)):
            if source not in ready:
                continue
            client.setblocking(False)
            try:
                data = source.recv(64 * 1024)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            finally:
                client.setblocking(True)
            if not data:
                return
            sink.sendall(data)


def serve(client):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte or len(head) > HEAD:
            return
        head += byte
    request, *fields = head.decode("latin-1").split("\r\n")
    fields = [field.partition(":") for field in fields]
    given = [value.strip() for name, _, value in fields if name.lower() == "proxy-authorization"]
    method, target, _ = request.split(" ")
    if [value.lower() for value in given] != [credentials.lower()]:
        client.sendall(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"e2e\"\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
    elif method != "CONNECT":
        client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    else:
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host = target.rsplit(":", 1)[0]
        with (
            context(host).wrap_socket(client, server_side=True) as client,
            socket.create_connection(server) as upstream,
        ):
            carry(client, upstream)


def guarded(client):
    try:
        with client:
            serve(client)
    except (OSError, ValueError) as error:
        print(f"a connection failed: {error}", file=sys.stderr, flush=True)


constraints = x509.BasicConstraints(ca=True, path_length=0)
identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
usage = x509.KeyUsage(*[False] * 5, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False)
authority = certificate("authority of scripts/e2e", (constraints, True), (identifier, False), (usage, True))
(folder / "ca.pem").write_bytes(authority)
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
while True:
    threading.Thread(target=guarded, args=(listener.accept()[0],), daemon=True).start()
