"""Passwords go to the server they are for, and nowhere else."""

from __future__ import annotations

import ast
import io
import logging
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pydantic import SecretStr

from tests.security.servers import PASSWORD, Authority, SecureKafka
from workers import address
from workers.bus.kafka import KafkaBus
from workers.bus.security import KafkaSecurity
from workers.commands.local import kafka_settings, redis_security
from workers.errors import SettingsError, StoreError
from workers.rights import user
from workers.secret import Secret
from workers.settings import Settings, load_settings
from workers.store.connection import RedisSecurity, connect

ROOT = Path(__file__).resolve().parents[2]


def test_every_password_of_the_settings_is_a_secret() -> None:
    fields = Settings.model_fields
    words = ("password", "secret", "token", "command")
    passwords = {name for name in fields if any(word in name for word in words)}
    assert {"kafka_password", "redis_password", "kafka_oauth_command"} <= passwords
    for name in passwords:
        assert fields[name].annotation == SecretStr | None, name
    assert fields["redis"].repr is False


def test_no_settings_object_shows_a_password() -> None:
    settings = Settings(
        kafka_security="sasl_plaintext",
        kafka_user="u",
        kafka_password=PASSWORD,
        redis=f"redis://u:{PASSWORD}@host/0",
        redis_password=PASSWORD,
    )
    shown = [settings, kafka_settings(settings), kafka_settings(settings).security, redis_security(settings)]
    for each in shown:
        assert PASSWORD not in repr(each)
        assert PASSWORD not in str(each)
    assert PASSWORD not in settings.model_dump_json(include={"kafka_password", "redis_password"})
    assert PASSWORD not in address.shown(settings.redis)
    common = kafka_settings(settings).common()
    assert common["sasl_plain_password"] == PASSWORD
    assert PASSWORD not in repr(common)
    assert PASSWORD not in repr(RedisSecurity(user="u", password=PASSWORD).options("redis://host/0"))


def test_a_wrong_value_of_a_secret_is_not_repeated(tmp_path: Path) -> None:
    for text in ('kafka_password = ["hunter2"]', 'redis = ["hunter2"]', 'redis_password = {a = "hunter2"}'):
        file = tmp_path / "settings.toml"
        file.write_text(text)
        assert tomllib.loads(text)
        with pytest.raises(SettingsError, match="CROSSCHECK_") as caught:
            load_settings(file)
        assert "hunter2" not in str(caught.value)


def test_a_secret_is_text_that_does_not_show() -> None:
    secret = Secret("hunter2")
    assert secret.encode() == b"hunter2"
    assert secret == "hunter2"
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret:>10}", "%s" % secret, str([secret])):  # noqa: UP031
        assert "hunter2" not in shown
        assert "***" in shown


def test_a_client_of_redis_does_not_show_its_password(redis_url: str) -> None:
    with pytest.raises(StoreError) as refused:
        connect(redis_url, security=RedisSecurity(user="u", password=PASSWORD))
    assert PASSWORD not in str(refused.value)
    assert PASSWORD not in repr(refused.value.__cause__)
    pool = redis.ConnectionPool.from_url(redis_url, **RedisSecurity(password=PASSWORD).options(redis_url))
    assert PASSWORD not in repr(pool)


def test_no_option_of_a_command_takes_a_password() -> None:
    # A command line can be read by every user of the machine.
    files = [*(ROOT / "workers").glob("cli*.py"), ROOT / "workers" / "options.py"]
    assert len(files) > 3
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg):
                assert "password" not in node.arg, f"{path.name}:{node.lineno}"


@pytest.mark.services
def test_logs_at_their_loudest_and_the_process_list_show_no_password(
    secure_broker: SecureKafka, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    loggers = [logging.getLogger(name) for name in ("kafka", "redis", "")]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    logging.getLogger().addHandler(handler)
    try:
        settings = Settings(
            kafka=secure_broker.sasl_ssl,
            kafka_security="sasl_ssl",
            kafka_user=user("worker"),
            kafka_password=PASSWORD,
            kafka_ca=secure_broker.ca,
        )
        bus = KafkaBus(kafka_settings(settings))
        bus.producer().close()
        bus.consumer(None).close()
        bus.close()
        connect(redis_url, security=RedisSecurity()).close()
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in before:
            logger.setLevel(level)
    printed = capfd.readouterr()
    everything = written.getvalue() + printed.out + printed.err
    # It was loud: the client's own configuration is there.
    assert "sasl_plain_username" in everything
    assert PASSWORD not in everything
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert any(str(secure_broker.ca.parent) in line for line in lines)
    assert not any(PASSWORD in line for line in lines)


SASL: dict[str, Any] = {"protocol": "sasl_ssl", "user": "u", "password": "p"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SASL | {"user": None}, "sasl_ssl needs a user: set CROSSCHECK_KAFKA_USER"),
        (SASL | {"password": ""}, "CROSSCHECK_KAFKA_PASSWORD.*or CROSSCHECK_KAFKA_SECURITY=ssl"),
        ({"protocol": "sasl_plaintext", "user": "u"}, "CROSSCHECK_KAFKA_PASSWORD.*=plaintext"),
        ({"user": "u", "password": "p"}, "not used by plaintext.*=sasl_plaintext"),
        ({"protocol": "ssl", "password": "p"}, "not used by ssl.*=sasl_ssl"),
        ({"ca": Path("ca.pem")}, "CROSSCHECK_KAFKA_CA.*not used by plaintext.*=ssl"),
        ({"protocol": "ssl", "ca": Path("no/ca.pem")}, "CROSSCHECK_KAFKA_CA=no/ca.pem: cannot read it"),
        ({"protocol": "ssl", "ca": Path(__file__)}, "holds no certificate"),
        ({"protocol": "ssl", "key": Path(__file__)}, "KAFKA_KEY without CROSSCHECK_KAFKA_CERT"),
        ({"protocol": "ssl", "cert": Path(__file__)}, "not a certificate and its private key"),
        ({"protocol": "ssl", "cert": Path("no.pem")}, "CROSSCHECK_KAFKA_CERT=no.pem: cannot read it"),
    ],
)
def test_settings_that_cannot_work_name_the_variable(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        KafkaSecurity(**given)


@pytest.mark.parametrize(
    ("given", "url", "said"),
    [
        ({"user": "u"}, "redis://host/0", "CROSSCHECK_REDIS_USER without a password"),
        (
            {"ca": Path("ca.pem")},
            "redis://u:pw@host/0",
            r"CROSSCHECK_REDIS_CA.*not used by redis://u:\*\*\*@host",
        ),
        ({"ca": Path("no.pem")}, "rediss://host/0", "CROSSCHECK_REDIS_CA=no.pem: cannot read it"),
        ({"key": Path(__file__)}, "rediss://host/0", "REDIS_KEY without CROSSCHECK_REDIS_CERT"),
    ],
)
def test_redis_settings_that_cannot_work_name_the_variable(
    given: dict[str, Any], url: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        RedisSecurity(**given).options(url)


def test_an_encrypted_key_is_refused_and_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    identity = authority.issue("encrypted")
    key = serialization.load_pem_private_key(identity.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    with pytest.raises(SettingsError, match="without a passphrase"):
        KafkaSecurity(protocol="ssl", ca=authority.ca, cert=identity.cert, key=locked)
    both = tmp_path / "both.pem"
    both.write_bytes(identity.key.read_bytes() + identity.cert.read_bytes())
    assert KafkaSecurity(protocol="ssl", ca=authority.ca, cert=both).context() is not None
