"""An address with a password in it: whatever is wrong with it, no message repeats a piece of the password."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas.part import PartKey
from workers.address import shown
from workers.archive.storage import open_storage
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.changeover.plc import PlcSettings
from workers.commands.local import open_store
from workers.errors import WorkerError
from workers.gate.address import open_actuator
from workers.registry.bundles import open_registry
from workers.settings import Settings, load_settings
from workers.store.connection import RedisSecurity, connect
from workers.tracing.export import endpoint_of, open_exporter
from workers.tracing.span import Span

PIECE = 4
# None of it can stand in a sentence of ours by chance.
LETTERS = "QXZJ0369"
SPECIAL = "#/?@%:[]&=+\\, ;"
SECRETS = st.text(st.sampled_from(LETTERS + SPECIAL), min_size=PIECE, max_size=24)
NOWHERE = "127.0.0.1:1"


def registry(url: str) -> object:
    return open_registry(Path("models"), url)


OPENED: dict[str, tuple[str, Callable[[str], object]]] = {
    "redis": (f"redis://ada:{{}}@{NOWHERE}/0", lambda url: connect(url, timeout_s=0.2, retries=0)),
    "redis without a user": (
        f"redis://:{{}}@{NOWHERE}/0",
        lambda url: connect(url, timeout_s=0.2, retries=0),
    ),
    "redis by TLS": (f"rediss://ada:{{}}@{NOWHERE}/0", lambda url: connect(url, timeout_s=0.2, retries=0)),
    "redis with its certificates": (
        f"redis://ada:{{}}@{NOWHERE}/0",
        RedisSecurity(ca=Path("ca.pem")).options,
    ),
    "redis setting": (f"redis://ada:{{}}@{NOWHERE}/0", lambda url: open_store(Settings(redis=url))),
    "kafka": (f"ada:{{}}@{NOWHERE}", lambda url: KafkaBus(KafkaSettings(bootstrap=url))),
    "kafka as a URL": (f"SASL_SSL://ada:{{}}@{NOWHERE}", lambda url: KafkaSettings(bootstrap=url)),
    "collector": (f"http://ada:{{}}@{NOWHERE}/v1/traces", endpoint_of),
    "collector of another scheme": (f"grpc://ada:{{}}@{NOWHERE}", endpoint_of),
    "models": ("s3://ada:{}@bucket/prefix", registry),
    "archive": ("s3://ada:{}@bucket/prefix", open_storage),
    "archive elsewhere": ("https://ada:{}@store.example/prefix", open_storage),
    "store of the archive": (
        "https://ada:{}@store.example",
        lambda url: open_storage("s3://bucket/prefix", endpoint=url),
    ),
    "actuator": (f"http://ada:{{}}@{NOWHERE}/gate", open_actuator),
    "actuator by Modbus": (f"modbus://ada:{{}}@{NOWHERE}/1?coil=0&heartbeat=0", open_actuator),
    "PLC": (f"modbus://ada:{{}}@{NOWHERE}/1?register=3", PlcSettings.parse),
}


def told(opened: Callable[[str], object], url: str) -> str:
    """What a person reads of it, with what led to it; nothing where it is taken."""
    try:
        opened(url)
    except WorkerError as error:
        return str(error)
    return ""


def pieces(secret: str) -> set[str]:
    found = {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}
    # Not what is in every message, as "://".
    return {piece for piece in found if any(char in LETTERS for char in piece)}


@pytest.mark.parametrize("name", OPENED)
@given(secret=SECRETS)
@example(secret="QXZJ#0369")
@example(secret="QXZJ/0369")
@example(secret="QXZJ?0369")
@example(secret="QXZJ@0369")
@example(secret="0369#QXZJ")
@example(secret="0369/QXZJ@QXZJ")
@example(secret="%ZZQX%41")
@example(secret="[QXZJ]")
@example(secret="3, @#")
def test_no_message_repeats_a_piece_of_a_password(name: str, secret: str) -> None:
    form, opened = OPENED[name]
    text = told(opened, form.format(secret))
    assume(text)
    # What is said of any password, as how to write its characters, repeats nothing of this one.
    always = [told(opened, form.format(other)) for other in ("____#", "____@____", "____/", "[____]")]
    found = [piece for piece in pieces(secret) if piece in text]
    assert [piece for piece in found if not any(piece in said for said in always)] == []


@pytest.mark.parametrize("secret", ["QXZJ#0369", "QXZJ/0369", "0369?QXZJ", "0369/QXZJ", "QX@ZJ/03"])
def test_a_password_that_cuts_the_url_is_refused_and_told_how_to_write_it(secret: str) -> None:
    with pytest.raises(WorkerError, match=r"%2F.*%3F.*%23") as caught:
        connect(f"redis://ada:{secret}@{NOWHERE}/0", timeout_s=0.2, retries=0)
    assert NOWHERE in str(caught.value), "the server is named"


def test_the_same_password_written_as_told_reaches_the_server(redis_url: str) -> None:
    host = redis_url.partition("//")[2]
    # The default user has no password here: Redis answers that this one is wrong, or takes it.
    text = told(lambda url: connect(url), f"redis://default:QX%23ZJ%2F%3F%40@{host}")
    assert "URL" not in text or "CROSSCHECK_REDIS_PASSWORD" in text
    assert "%23" not in text


@given(secret=SECRETS, form=st.sampled_from([form for form, _ in OPENED.values()]))
def test_nothing_of_a_password_is_shown(secret: str, form: str) -> None:
    text = shown(form.format(secret))
    assert [piece for piece in pieces(secret) if piece in text] == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://box/0", "redis://box/0"),
        ("redis://[::1]:6379/2", "redis://[::1]:6379/2"),
        ("rediss://ada:word@box:6380/2?db=3", "rediss://ada:***@box:6380/2"),
        ("redis://:word@box", "redis://***@box"),
        ("https://key@box/a/b", "https://***@box/a/b"),
        ("redis://ada:wo@rd@box", "redis://***@box"),
        ("redis://:word", "redis://***"),
        ("redis://box:word", "redis://box:***"),
        ("box:9092", "box:9092"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_what_is_no_secret_stays_readable(url: str, said: str) -> None:
    assert shown(url) == said


@pytest.mark.parametrize("name", ["redis", "kafka", "trace", "model_store"])
def test_a_value_of_the_wrong_type_is_not_repeated(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'{name} = ["x://ada:QXZJ0369@box"]\n')
    text = told(lambda _: load_settings(file), "")
    assert name.upper() in text
    assert "QXZJ" not in text


def test_settings_that_are_printed_show_no_url() -> None:
    urls: dict[str, Any] = {
        "redis": "redis://a:QXZJ@b",
        "trace": "http://a:QXZJ@b",
        "model_store": "s3://QXZJ",
    }
    assert "QXZJ" not in repr(Settings(**urls))


def test_a_collector_that_is_away_is_named_without_what_its_url_carries() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    exporter = open_exporter(
        f"http://ada:QXZJ0369@{NOWHERE}/v1/traces?key=ZJQX9630", process="worker", name="w", version="1"
    )
    try:
        text = exporter.export([Span(part=PartKey("s1", 1, 1), name="span", start=1, end=2)])
    finally:
        exporter.close()
    assert text is not None
    assert NOWHERE in text
    assert "QXZJ" not in text
    assert "ZJQX" not in text
