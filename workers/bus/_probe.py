"""One conversation with a broker before a client is made: does it speak as the settings say, and let us in?

The Kafka client tries a refused connection again until its time is up, and then says no more than that.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time

from workers.bus._client import get_sasl_mechanism
from workers.bus.oauth import NoToken
from workers.bus.security import KafkaSecurity
from workers.errors import BusError
from workers.tls import tls_problem

_METADATA, _HANDSHAKE, _AUTHENTICATE = 3, 17, 36
_ILLEGAL_SASL_STATE, _UNSUPPORTED_MECHANISM = 34, 33
# A TLS record that carries an alert: how a TLS port answers one who speaks in the open.
_TLS_ALERT = b"\x15\x03"
_LARGEST_ANSWER = 64 * 1024


class Refused(BusError):
    """A broker is there, but does not let us in as we come: waiting does not help, other settings do."""

    reason = "bus_refused"
    retriable = False


def probe(host: str, port: int, security: KafkaSecurity, timeout: float) -> None:
    """Connect, encrypt and log in as a client would; ``timeout`` in seconds for all of it.

    Raises:
        Refused: the broker and the settings do not agree; the text says on what, and what to change.
        BusError: nobody answers there.
    """
    where = f"Kafka at {host}:{port}"
    deadline = time.monotonic() + timeout
    try:
        connection = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise BusError(
            f"no answer from {where} ({error}): is it running? try `crosscheck services up`"
        ) from None
    with connection:
        if context := security.context():
            try:
                connection = context.wrap_socket(connection, server_hostname=host)
            except TimeoutError:
                raise BusError(
                    f"{where} did not answer the TLS handshake within {timeout:g} s: it is still starting, or"
                    " does not speak TLS on this port (CROSSCHECK_KAFKA_SECURITY)"
                ) from None
            except OSError as error:
                raise Refused(f"{where}: {tls_problem(error, 'KAFKA')}") from None
        with connection:
            talk = _Talk(connection, where, deadline)
            _log_in(talk, security, where)
            told = _told_to_go(talk)
    _require_reachable(told, (host, port), where, deadline)


def _told_to_go(talk: _Talk) -> list[tuple[str, int]]:
    """Where the brokers say that clients find them: what a client speaks to after this first address."""
    answer = talk.ask(_METADATA, 1, struct.pack(">i", 0))
    found: list[tuple[str, int]] = []
    at = 4
    try:
        (count,) = struct.unpack_from(">i", answer)
        for _ in range(count):
            (size,) = struct.unpack_from(">h", answer, at + 4)
            host = answer[at + 6 : at + 6 + size].decode(errors="replace")
            (port,) = struct.unpack_from(">i", answer, at + 6 + size)
            (rack,) = struct.unpack_from(">h", answer, at + 10 + size)
            found.append((host, port))
            at += 12 + size + max(0, rack)
    except struct.error:
        pass  # cut short: those that are whole are enough
    return found


def _require_reachable(
    told: list[tuple[str, int]], asked: tuple[str, int], where: str, deadline: float
) -> None:
    """See that a client finds one of the brokers at the address that they give themselves.

    Raises:
        BusError: it finds none of them; the text names an address and what sets it.
    """
    problem = ""
    for host, port in told:
        if (host, port) == asked:
            return
        try:
            with socket.create_connection((host, port), max(0.2, deadline - time.monotonic())):
                return
        except OSError as error:
            problem = problem or f"{host}:{port} ({error.strerror or error})"
    if problem:
        raise BusError(
            f"{where} answers and tells its clients to go on to {problem}, which cannot be reached from here:"
            " set advertised.listeners of the broker to an address that this machine reaches"
        )


def _log_in(talk: _Talk, security: KafkaSecurity, where: str) -> None:
    # Without a user the question is asked too: a port without users answers that it knows no such thing.
    code, rest = _coded(talk.ask(_HANDSHAKE, 1, _text(security.mechanism)), where)
    if not security.sasl:
        if code != _ILLEGAL_SASL_STATE:
            raise Refused(
                f"{where} wants a user: set CROSSCHECK_KAFKA_SECURITY="
                f"{'sasl_ssl' if security.tls else 'sasl_plaintext'}, CROSSCHECK_KAFKA_USER and _PASSWORD"
                " (or CROSSCHECK_KAFKA_SASL=OAUTHBEARER and CROSSCHECK_KAFKA_OAUTH_FILE)"
            )
        return
    if code == _ILLEGAL_SASL_STATE:
        raise Refused(
            f"{where} knows no users on this port: use its SASL port, or set CROSSCHECK_KAFKA_SECURITY="
            f"{'ssl' if security.tls else 'plaintext'}"
        )
    if code == _UNSUPPORTED_MECHANISM:
        raise Refused(
            f"{where} does not take {security.mechanism}: set CROSSCHECK_KAFKA_SASL to one of"
            f" {', '.join(_texts(rest)) or 'those it is set up for'}"
        )
    if code:
        raise Refused(f"{where} refuses to log us in (error {code}): see the broker's log")
    mechanism = get_sasl_mechanism(security.mechanism)(
        sasl_mechanism=security.mechanism,
        sasl_plain_username=security.user,
        sasl_plain_password=security.password,
        sasl_oauth_token_provider=security.oauth,
        security_protocol=security.protocol.upper(),
    )
    while not mechanism.is_done():
        try:
            proof = mechanism.auth_bytes()
        except NoToken as error:
            raise Refused(f"{where} wants a token; {error}") from None
        code, rest = _coded(talk.ask(_AUTHENTICATE, 0, _bytes(proof)), where)
        if code and security.oauth is not None:
            raise Refused(
                f"{where} refuses the token of {security.oauth.where()}: it has expired by the broker's"
                " clock, is for another audience or issuer, or its user is not known there; see the"
                " broker's log"
            )
        if code:
            raise Refused(
                f"{where} refuses user {security.user!r}: the user or the password is wrong; check"
                " CROSSCHECK_KAFKA_USER and CROSSCHECK_KAFKA_PASSWORD"
            )
        mechanism.receive(_answered(rest))


class _Talk:
    """Requests and answers of the Kafka protocol, one at a time."""

    def __init__(self, connection: socket.socket, where: str, deadline: float) -> None:
        self._connection = connection
        self._where = where
        self._deadline = deadline

    def ask(self, key: int, version: int, body: bytes) -> bytes:
        """The body of the answer."""
        client = b"crosscheck"
        request = struct.pack(f">hhih{len(client)}s", key, version, 1, len(client), client) + body
        try:
            self._connection.sendall(struct.pack(">i", len(request)) + request)
            head = self._exactly(4)
            if head.startswith(_TLS_ALERT):
                raise Refused(
                    f"{self._where} speaks TLS on this port: set CROSSCHECK_KAFKA_SECURITY=ssl or sasl_ssl,"
                    " and CROSSCHECK_KAFKA_CA"
                )
            (size,) = struct.unpack(">i", head)
            if not 4 <= size <= _LARGEST_ANSWER:
                raise Refused(f"{self._where}: what answers there is not Kafka; check the address")
            return self._exactly(size)[4:]
        except TimeoutError:
            raise BusError(
                f"{self._where} took the connection and says nothing: it is still starting, is not Kafka, or"
                " CROSSCHECK_KAFKA_SECURITY does not fit this port"
            ) from None
        except ssl.SSLError as error:
            # With TLS 1.3 a server looks at our certificate only after the handshake.
            raise Refused(f"{self._where}: {tls_problem(error, 'KAFKA')}") from None
        except OSError as error:
            raise BusError(
                f"{self._where} ended the connection ({error}): it is stopping, or CROSSCHECK_KAFKA_SECURITY"
                " does not fit this port"
            ) from None

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            piece = self._connection.recv(count - len(found))
            if not piece:
                raise ConnectionResetError("closed without an answer")
            found += piece
        return found


def _coded(answer: bytes, where: str) -> tuple[int, bytes]:
    """The error code at the head of an answer, and the rest."""
    if len(answer) < 2:
        raise Refused(f"{where}: what answers there is not Kafka; check the address")
    (code,) = struct.unpack_from(">h", answer)
    return int(code), answer[2:]


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _bytes(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


def _texts(body: bytes) -> list[str]:
    """The list of texts that a body begins with; what is cut short is left out."""
    found: list[str] = []
    at = 4
    while at + 2 <= len(body):
        (length,) = struct.unpack_from(">h", body, at)
        found.append(body[at + 2 : at + 2 + max(0, length)].decode(errors="replace"))
        at += 2 + max(0, length)
    return found


def _answered(body: bytes) -> bytes:
    """The bytes behind the nullable text of an answer."""
    (length,) = struct.unpack_from(">h", body)
    at = 2 + max(0, length)
    (size,) = struct.unpack_from(">i", body, at)
    return body[at + 4 : at + 4 + max(0, size)]
