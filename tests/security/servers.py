"""Certificates and servers of the security tests: a broker with users and rights, TLS before any server."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from compose.kafka import KafkaServer
from compose.process import free_ports
from workers.bus._client import KafkaAdminClient
from workers.rights import KafkaRight

PASSWORD = "s3cret-of-the-line"
"""Of every user. Nothing that is printed may show it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its chain, and its key, as PEM files."""

    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """The TLS context of a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class Authority:
    """Issues certificates into a folder; ``ca`` is its own certificate."""

    def __init__(self, folder: Path, name: str = "line") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / f"{name}-ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(self, *names: str, common_name: str | None = None, days: float = 1.0) -> Identity:
        """A certificate for host names or addresses; one of ``days`` below 0 has expired."""
        now = datetime.datetime.now(datetime.UTC)
        until = now + datetime.timedelta(days=days)
        issued = self._ca.issue_cert(
            *names,
            common_name=common_name,
            not_before=min(now, until) - datetime.timedelta(days=2),
            not_after=until,
        )
        stem = self._folder / f"{self.ca.stem}-{common_name or names[0]}-{days:g}"
        cert, key = stem.with_suffix(".cert.pem"), stem.with_suffix(".key.pem")
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        # Kafka reads keys as PKCS #8 only.
        private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(cert, key)


class TlsFront:
    """Ends TLS on a port of 127.0.0.1 and hands the bytes on to another port; many connections at a time."""

    def __init__(self, upstream: int, context: ssl.SSLContext) -> None:
        self._upstream = upstream
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.sent = bytearray()
        """What clients sent, once decrypted."""

    def close(self) -> None:
        """Stop listening and end every connection."""
        for each in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        for each in self._clients:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                # A descriptor of its own: wrapping one in TLS takes it over.
                kept = client.dup()
                self._clients.append(kept)
                thread = threading.Thread(target=self._serve, args=(client, kept), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket, kept: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._talk(raw)
        with contextlib.suppress(OSError):
            kept.shutdown(socket.SHUT_RDWR)

    def _talk(self, raw: socket.socket) -> None:
        # One thread a connection: an SSL socket must not be read and written by two at once.
        with raw:
            raw.settimeout(10)
            with (
                self._context.wrap_socket(raw, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._upstream)) as server,
            ):
                client.settimeout(0.01)
                server.settimeout(0.01)
                while True:
                    with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                        data = client.recv(65536)
                        if not data:
                            return
                        self.sent += data
                        server.sendall(data)
                    with contextlib.suppress(TimeoutError):
                        data = server.recv(65536)
                        if not data:
                            return
                        client.sendall(data)


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """A broker with four doors: users by TLS, users in the open, certificates, and one for the tests."""

    sasl_ssl: str
    sasl_plaintext: str
    ssl: str
    inside: str
    ca: Path
    authority: Authority


@contextlib.contextmanager
def secure_kafka(folder: Path, scram_users: list[str]) -> Iterator[SecureKafka]:
    """Start the broker; users have no rights yet, and the door for the tests has them all."""
    authority = Authority(folder)
    identity = authority.issue("127.0.0.1", "localhost", common_name="broker")
    pem = folder / "broker.pem"
    pem.write_bytes(identity.key.read_bytes() + identity.cert.read_bytes())
    tls, users, certs, inside, controller = free_ports(5)
    doors = {"SASL_SSL": tls, "SASL_PLAINTEXT": users, "SSL": certs, "INTERNAL": inside}
    told = ",".join(f"{name}://127.0.0.1:{port}" for name, port in doors.items())
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    # Takes tokens without a signature: who may make them is another server's matter.
    bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    extra = {
        "listeners": f"{told},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": told,
        "listener.security.protocol.map": (
            "SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(pem),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Who comes by the door without users or certificates.
        "super.users": "User:ANONYMOUS",
    }
    for door in ("sasl_ssl", "sasl_plaintext"):
        extra[f"listener.name.{door}.scram-sha-512.sasl.jaas.config"] = scram
        extra[f"listener.name.{door}.oauthbearer.sasl.jaas.config"] = bearer
        # Connections log in again this often, as brokers ask for whose tokens are short.
        extra[f"listener.name.{door}.oauthbearer.connections.max.reauth.ms"] = "2000"
        extra[f"listener.name.{door}.plain.sasl.jaas.config"] = f'{plain} user_plain="{PASSWORD}";'
    server = KafkaServer(folder, tls, controller, internal_port=inside, extra=extra)
    try:
        server.start(lambda _: None)
        address = f"127.0.0.1:{inside}"
        admin = KafkaAdminClient(bootstrap_servers=address)
        try:
            admin.alter_user_scram_credentials(_credentials(scram_users))
        finally:
            admin.close()
        yield SecureKafka(
            f"127.0.0.1:{tls}", f"127.0.0.1:{users}", f"127.0.0.1:{certs}", address, authority.ca, authority
        )
    finally:
        server.process.kill()


def _credentials(users: list[str]) -> list[object]:
    # Not at the top of the file: `workers.bus._client` imports the client without its warning.
    from kafka.admin._users import UserScramCredentialUpsertion

    return [UserScramCredentialUpsertion(user, "SCRAM-SHA-512", PASSWORD) for user in users]


def grant(bootstrap: str, rights: list[KafkaRight]) -> None:
    """Write these lines into the broker's access list."""
    from kafka.admin import (
        ACL,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePattern,
        ResourceType,
    )

    def word(text: str) -> str:
        return "".join(f"_{each}" if each.isupper() else each for each in text).strip("_").upper()

    lists = [
        ACL(
            right.principal,
            "*",
            ACLOperation[word(right.operation)],
            ACLPermissionType.ALLOW,
            ResourcePattern(
                ResourceType[right.resource.replace("-", "_").upper()],
                right.name,
                ACLResourcePatternType[right.pattern.upper()],
            ),
        )
        for right in rights
    ]
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        answer = admin.create_acls(lists)
        assert not answer["failed"], answer
    finally:
        admin.close()
