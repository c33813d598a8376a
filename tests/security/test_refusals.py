"""Settings and servers that do not agree: one line that says on what, at once, and never a password."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.servers import PASSWORD, Authority, SecureKafka, TlsFront
from workers.bus.kafka import KafkaBus
from workers.cli import main
from workers.commands.local import open_bus, open_store
from workers.errors import WorkerError
from workers.rights import user
from workers.settings import Settings

pytestmark = pytest.mark.services

WORKER = {"kafka_user": user("worker"), "kafka_password": PASSWORD}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def fronts() -> Iterator[list[TlsFront]]:
    """TLS fronts of a test, closed at its end."""
    made: list[TlsFront] = []
    yield made
    for front in made:
        front.close()


def refusal(open_it: Any, settings: Settings) -> str:
    """What is said; it must be one line, come within the connect timeout, and keep the password."""
    began = time.monotonic()
    with pytest.raises(WorkerError) as caught:
        open_it(settings)
    text = str(caught.value)
    assert time.monotonic() - began < 6.0
    assert "\n" not in text
    assert PASSWORD not in text
    assert PASSWORD not in repr(settings)
    return text


def test_a_broker_is_reached_by_each_of_its_doors(secure_broker: SecureKafka) -> None:
    ours = secure_broker.authority.issue("client", common_name="agent-of-s1")
    tls = {"kafka_ca": secure_broker.ca}
    plain = {"kafka_user": "plain", "kafka_password": PASSWORD, "kafka_sasl": "PLAIN"}
    doors: list[tuple[str, dict[str, Any]]] = [
        (secure_broker.inside, {}),
        (secure_broker.sasl_plaintext, {"kafka_security": "sasl_plaintext", **WORKER}),
        (secure_broker.sasl_ssl, {"kafka_security": "sasl_ssl", **WORKER, **tls}),
        (secure_broker.sasl_ssl, {"kafka_security": "sasl_ssl", **plain, **tls}),
        (secure_broker.ssl, {"kafka_security": "ssl", **tls, "kafka_cert": ours.cert, "kafka_key": ours.key}),
    ]
    for address, settings in doors:
        bus = open_bus(Settings(kafka=address, **settings))
        assert isinstance(bus, KafkaBus)
        bus.close()


@pytest.mark.parametrize(
    ("door", "change", "said"),
    [
        ("sasl_ssl", {"kafka_password": "wrong"}, "refuses user 'crosscheck-worker'.*KAFKA_PASSWORD"),
        ("sasl_ssl", {"kafka_user": "nobody"}, "refuses user 'nobody': the user or the password is wrong"),
        ("sasl_ssl", {"kafka_sasl": "SCRAM-SHA-256"}, "does not take SCRAM-SHA-256.*one of.*SCRAM-SHA-512"),
        ("sasl_ssl", {"kafka_security": "sasl_plaintext", "kafka_ca": None}, "speaks TLS on this port"),
        (
            "sasl_ssl",
            {"kafka_security": "ssl", "kafka_user": None, "kafka_password": None},
            "wants a user: set CROSSCHECK_KAFKA_SECURITY=sasl_ssl",
        ),
        (
            "sasl_ssl",
            {"kafka_security": "plaintext", "kafka_user": None, "kafka_password": None, "kafka_ca": None},
            "speaks TLS on this port: set CROSSCHECK_KAFKA_SECURITY=ssl or sasl_ssl",
        ),
        ("sasl_plaintext", {}, "does not speak TLS|ended the TLS handshake"),
        (
            "sasl_plaintext",
            {"kafka_security": "plaintext", "kafka_user": None, "kafka_password": None, "kafka_ca": None},
            "wants a user: set CROSSCHECK_KAFKA_SECURITY=sasl_plaintext",
        ),
        (
            "inside",
            {"kafka_security": "sasl_plaintext", "kafka_ca": None},
            "knows no users on this port.*CROSSCHECK_KAFKA_SECURITY=plaintext",
        ),
        (
            "ssl",
            {"kafka_security": "ssl", "kafka_user": None, "kafka_password": None},
            "wants a certificate of ours: set CROSSCHECK_KAFKA_CERT",
        ),
    ],
)  # fmt: skip
def test_a_broker_that_does_not_agree_says_why(
    secure_broker: SecureKafka, door: str, change: dict[str, Any], said: str
) -> None:
    right: dict[str, Any] = {"kafka_security": "sasl_ssl", "kafka_ca": secure_broker.ca, **WORKER}
    address = getattr(secure_broker, door)
    settings = Settings(kafka=address, **(right | change))
    text = refusal(open_bus, settings)
    assert re.search(said, text), text
    assert address in text


def faulty_fronts(authority: Authority, stranger: Authority) -> dict[str, tuple[Any, str]]:
    """Servers' certificates that must not be taken, and what is said of each."""
    return {
        "another authority": (stranger.issue("127.0.0.1"), "trust no authority.*CA"),
        "expired": (authority.issue("127.0.0.1", days=-1), "not valid today.*expired.*renew"),
        "another host": (authority.issue("broker.example"), "(mismatch|not valid for).*name"),
    }


@pytest.mark.parametrize("fault", ["another authority", "expired", "another host"])
@pytest.mark.parametrize("server", ["kafka", "redis"])
def test_a_certificate_that_is_not_the_servers_is_refused(
    secure_broker: SecureKafka,
    redis_url: str,
    authority: Authority,
    stranger: Authority,
    fronts: list[TlsFront],
    server: str,
    fault: str,
) -> None:
    identity, said = faulty_fronts(authority, stranger)[fault]
    upstream = secure_broker.inside if server == "kafka" else redis_url.partition("//")[2].partition("/")[0]
    fronts.append(TlsFront(int(upstream.rpartition(":")[2]), identity.context()))
    address = f"127.0.0.1:{fronts[0].port}"
    if server == "kafka":
        text = refusal(open_bus, Settings(kafka=address, kafka_security="ssl", kafka_ca=authority.ca))
    else:
        text = refusal(open_store, Settings(redis=f"rediss://{address}/0", redis_ca=authority.ca))
    assert re.search(said, text), text
    assert address in text


def test_redis_by_tls_wants_what_it_wants(
    redis_url: str, authority: Authority, stranger: Authority, fronts: list[TlsFront]
) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    strict = authority.issue("127.0.0.1").context()
    strict.load_verify_locations(authority.ca)
    strict.verify_mode = ssl.CERT_REQUIRED
    fronts.append(TlsFront(port, strict))
    url = f"rediss://127.0.0.1:{fronts[0].port}/0"
    ours, theirs = authority.issue("agent"), stranger.issue("agent")
    settings = Settings(redis=url, redis_ca=authority.ca, redis_cert=ours.cert, redis_key=ours.key)
    assert open_store(settings).latest("nobody") is None
    # An option in the URL does not switch the checks off.
    loose = Settings(
        redis=url + "?ssl_cert_reqs=none", redis_ca=stranger.ca, redis_cert=ours.cert, redis_key=ours.key
    )
    assert "trust no authority" in refusal(open_store, loose)
    assert "REDIS_CERT" in refusal(open_store, Settings(redis=url, redis_ca=authority.ca))
    foreign = Settings(redis=url, redis_ca=authority.ca, redis_cert=theirs.cert, redis_key=theirs.key)
    assert "CROSSCHECK_REDIS_CERT" in refusal(open_store, foreign)


def test_redis_in_the_open_and_by_tls_are_told_apart(
    redis_url: str, authority: Authority, fronts: list[TlsFront]
) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    fronts.append(TlsFront(port, authority.issue("127.0.0.1").context()))
    assert "rediss://" in refusal(open_store, Settings(redis=f"redis://127.0.0.1:{fronts[0].port}/0"))
    plain = Settings(redis=f"rediss://127.0.0.1:{port}/0", redis_ca=authority.ca)
    assert re.search("TLS", refusal(open_store, plain))


def test_a_wrong_password_of_redis_is_one_line(redis_url: str) -> None:
    text = refusal(open_store, Settings(redis=redis_url, redis_user="nobody", redis_password=PASSWORD))
    assert "CROSSCHECK_REDIS_PASSWORD" in text
    named = redis_url.replace("//", f"//nobody:{PASSWORD}@")
    assert "CROSSCHECK_REDIS_PASSWORD" in refusal(open_store, Settings(redis=named))


@pytest.mark.parametrize("command", ["capture", "topics"])
def test_a_command_ends_with_the_line_and_no_traceback(
    secure_broker: SecureKafka,
    redis_url: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "KAFKA": secure_broker.sasl_ssl,
        "REDIS": redis_url,
        "KAFKA_SECURITY": "sasl_ssl",
        "KAFKA_USER": user("worker"),
        "KAFKA_PASSWORD": PASSWORD + "-old",
        "KAFKA_CA": str(secure_broker.ca),
    }.items():
        monkeypatch.setenv(f"CROSSCHECK_{name}", value)
    monkeypatch.setattr("sys.argv", ["crosscheck", command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    printed = capfd.readouterr()
    assert "refuses user 'crosscheck-worker'" in printed.err.replace("\n", " ")
    assert "Traceback" not in printed.out + printed.err
    assert PASSWORD not in printed.out + printed.err
