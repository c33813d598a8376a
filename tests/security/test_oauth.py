"""Tokens of OAUTHBEARER: from a file or a command, anew at each login, and in no message."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.security.conftest import PREFIX
from tests.security.servers import PASSWORD, SecureKafka
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.bus.oauth import NoToken, OAuthToken
from workers.bus.security import KafkaSecurity
from workers.commands.local import kafka_settings, open_bus
from workers.errors import BusError, SettingsError
from workers.rights import user
from workers.settings import Settings

WORKER = user("worker")


def jwt(name: str = WORKER, *, life_s: float = 600.0, algorithm: str = "none", **claims: Any) -> str:
    """A token without a signature, as the broker of the tests takes them."""
    now = time.time()
    issued: Mapping[str, Any] = {"sub": name, "iat": now - 1000, "exp": now + life_s, **claims}
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": algorithm}, issued)
    )
    return f"{head}.{body}."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a good token."""
    path = tmp_path / "token"
    path.write_text(jwt() + "\n")
    return path


def reached(address: str, **settings: Any) -> None:
    everything: dict[str, Any] = {"kafka_security": "sasl_plaintext", "kafka_sasl": "OAUTHBEARER"}
    open_bus(Settings(kafka=address, **(everything | settings))).close()


@pytest.mark.services
def test_a_broker_lets_in_who_has_a_token_from_a_file_or_a_command(
    secure_broker: SecureKafka, file: Path
) -> None:
    printing = f"{sys.executable} -c \"print(open('{file}').read())\""
    reached(secure_broker.sasl_plaintext, kafka_oauth_file=file)
    reached(secure_broker.sasl_plaintext, kafka_oauth_command=printing)
    tls = {"kafka_security": "sasl_ssl", "kafka_ca": secure_broker.ca}
    reached(secure_broker.sasl_ssl, kafka_oauth_file=file, **tls)
    file.write_text(json.dumps({"access_token": jwt(), "expires_in": 600}))
    reached(
        secure_broker.sasl_ssl, kafka_oauth_file=file, kafka_oauth_extensions="logicalCluster=lkc-1", **tls
    )


@pytest.mark.services
@pytest.mark.parametrize(
    ("token", "said"),
    [
        (jwt(algorithm="HS256") + "c2ln", "refuses the token of CROSSCHECK_KAFKA_OAUTH_FILE"),
        (jwt(life_s=-60), r"wants a token; .*the token expired \d+ s ago"),
        ("opaque", "refuses the token"),
        ("", "wants a token; .*it is empty"),
    ],
)
def test_a_token_that_is_not_taken_is_one_line_without_the_token(
    secure_broker: SecureKafka, file: Path, token: str, said: str
) -> None:
    file.write_text(token)
    with pytest.raises(BusError, match=said) as caught:
        reached(secure_broker.sasl_plaintext, kafka_oauth_file=file)
    text = str(caught.value)
    assert str(file) in text
    assert secure_broker.sasl_plaintext in text
    assert "\n" not in text
    assert not token or token not in text


@pytest.mark.services
def test_a_token_that_has_expired_by_the_brokers_clock_is_refused(
    secure_broker: SecureKafka, file: Path
) -> None:
    file.write_text(jwt(life_s=-60))
    slow = OAuthToken(file=file, now=lambda: time.time() - 3600)
    security = KafkaSecurity(protocol="sasl_plaintext", mechanism="OAUTHBEARER", oauth=slow)
    with pytest.raises(BusError, match=r"refuses the token .*expired by the broker's clock"):
        KafkaBus(KafkaSettings(bootstrap=secure_broker.sasl_plaintext, security=security))


class Counted(OAuthToken):
    """Counts the logins."""

    logins = 0

    def token(self) -> str:
        self.logins += 1
        return super().token()


@pytest.mark.services
def test_connections_that_stand_go_on_with_the_token_that_has_replaced_the_first(
    secure_broker: SecureKafka, file: Path
) -> None:
    operator = KafkaBus(secure_broker.inside)
    # Other tests of this broker may have made the topics with more partitions.
    topic = f"{PREFIX}.verdicts"
    if operator.partitions(topic) is None:
        operator.ensure_topics({topic: TopicSpec(partitions=1)})
    operator.close()
    source = Counted(file=file)
    security = KafkaSecurity(protocol="sasl_plaintext", mechanism="OAUTHBEARER", oauth=source)
    bus = KafkaBus(KafkaSettings(bootstrap=secure_broker.sasl_plaintext, security=security))
    producer = bus.producer()
    producer.prepare(TopicPartition(topic, 0), 10)
    producer.send(topic, b"first", partition=0).wait(10)
    file.write_text(jwt(life_s=1200))
    before, until = source.logins, time.monotonic() + 60
    while source.logins < before + 3 and time.monotonic() < until:
        producer.send(topic, b"next", partition=0).wait(10)
        time.sleep(0.05)
    assert source.logins >= before + 3
    bus.close()


@pytest.mark.services
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "PLAIN"])
def test_the_clients_log_at_its_loudest_shows_no_token_and_no_password(
    secure_broker: SecureKafka, file: Path, mechanism: str
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(1)
    logger.addHandler(handler)
    try:
        with capture_logs():
            if mechanism == "PLAIN":
                reached(
                    secure_broker.sasl_plaintext,
                    kafka_sasl="PLAIN",
                    kafka_user="plain",
                    kafka_password=SecretStr(PASSWORD),
                )
            else:
                reached(secure_broker.sasl_plaintext, kafka_oauth_file=file)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert "SaslAuthenticateRequest(***)" in written.getvalue()
    for secret in (PASSWORD, file.read_text().strip()):
        assert secret not in written.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"hush hush", "holds no token"),
        (b"\xff\xfe\x00", "it is not text"),
        (b'{"error": "hush"}', "JSON without access_token"),
        (b"hush" * 20_000, "80000 bytes are no token"),
        (jwt(life_s=-5).encode(), r"expired \d+ s ago"),
        (None, "cannot read the token .No such file"),
    ],
)
def test_what_is_no_token_is_named_by_its_source_and_never_shown(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "token"
    printing = f"{sys.executable} -c \"import sys; sys.stdout.buffer.write(open('{file}', 'rb').read())\""
    if content is not None:
        file.write_bytes(content)
    sources = {"FILE": OAuthToken(file=file), "COMMAND": OAuthToken(command=printing)}
    for name, source in sources.items():
        with capture_logs() as logged:
            for _ in range(3):
                with pytest.raises(NoToken, match=f"CROSSCHECK_KAFKA_OAUTH_{name}") as caught:
                    source.token()
        # A command fails in its own way where the file is not there.
        assert re.search(said if name == "FILE" or content is not None else "exit code 1", str(caught.value))
        assert [entry["event"] for entry in logged] == ["kafka.no_token"], "once for each problem"
        assert "hush" not in str(logged) + str(caught.value)


def test_a_file_is_read_at_each_login_and_a_command_when_its_token_has_aged(tmp_path: Path) -> None:
    now = [time.time()]
    file = tmp_path / "token"
    printing = f"{sys.executable} -c \"print(open('{file}').read())\""
    by_file = OAuthToken(file=file, now=lambda: now[0])
    by_command = OAuthToken(command=printing, now=lambda: now[0])
    first, second = jwt(life_s=100), jwt(life_s=200)
    file.write_text(f"Bearer {first}")
    assert by_file.token() == by_command.token() == first
    file.write_text(second)
    now[0] += 79
    assert (by_file.token(), by_command.token()) == (second, first)
    now[0] += 2
    assert by_command.token() == second
    file.unlink()
    now[0] += 10
    assert by_command.token() == second
    with pytest.raises(NoToken):
        by_file.token()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs a token: set CROSSCHECK_KAFKA_OAUTH_FILE or CROSSCHECK_KAFKA_OAUTH_COMMAND"),
        ({"kafka_oauth_file": Path("t"), "kafka_oauth_command": "hush"}, "one of them"),
        ({"kafka_oauth_command": "hush 'open"}, "KAFKA_OAUTH_COMMAND: No closing quotation"),
        ({"kafka_oauth_command": " "}, "KAFKA_OAUTH_COMMAND: it is empty"),
        (
            {"kafka_oauth_file": Path("t"), "kafka_user": "u"},
            "USER and _PASSWORD are not used by OAUTHBEARER",
        ),
        ({"kafka_oauth_file": Path("t"), "kafka_sasl": "PLAIN"}, "CROSSCHECK_KAFKA_SASL=OAUTHBEARER"),
        ({"kafka_oauth_file": Path("t"), "kafka_security": "ssl"}, "CROSSCHECK_KAFKA_SECURITY=sasl_ssl"),
        ({"kafka_oauth_file": Path("t"), "kafka_oauth_extensions": "a"}, "expected NAME=VALUE"),
        ({"kafka_oauth_extensions": "a=b"}, "KAFKA_OAUTH_EXTENSIONS is sent with a token"),
    ],
)
def test_token_settings_that_cannot_work_name_the_variable(given: dict[str, Any], said: str) -> None:
    everything = {"kafka_security": "sasl_plaintext", "kafka_sasl": "OAUTHBEARER"} | given
    settings = Settings(**everything)
    with pytest.raises(SettingsError, match=said) as caught:
        kafka_settings(settings)
    assert "hush" not in str(caught.value) + repr(settings)
