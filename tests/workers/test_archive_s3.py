"""The archive on an S3 store: a real HTTP server in this process, spoken to by the real client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.archive_line import ArchiveLine
from workers.archive.local import LocalStorage
from workers.archive.rows import VERDICT
from workers.archive.storage import Storage, checked_name, open_storage
from workers.archive.verify import Verifier
from workers.errors import ArchiveError, SettingsError

BUCKET = "line-7"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of an S3 store on loopback."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and region as any S3 tool takes them."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "an-id"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(server: str, keys: None) -> Iterator[Any]:
    """A client of the store, and an empty bucket in it."""
    made = boto3.client("s3", endpoint_url=server)
    made.create_bucket(Bucket=BUCKET)
    yield made
    for item in made.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        made.delete_object(Bucket=BUCKET, Key=item["Key"])
    made.delete_bucket(Bucket=BUCKET)
    made.close()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each kind of storage, empty."""
    if request.param == "local":
        return LocalStorage(tmp_path)
    request.getfixturevalue("client")
    return open_storage(f"s3://{BUCKET}/plant/a", endpoint=request.getfixturevalue("server"))


def test_what_was_put_is_there_whole(storage: Storage) -> None:
    assert storage.get("shifts/a/x.json") is None
    storage.put("shifts/a/x.json", b"one")
    storage.put("shifts/a/x.json", b"two")
    assert storage.get("shifts/a/x.json") == b"two"
    storage.delete("shifts/a/x.json")
    storage.delete("shifts/a/x.json")
    assert storage.get("shifts/a/x.json") is None


def test_a_name_that_is_taken_stays_what_it_is(storage: Storage) -> None:
    assert storage.put_new("head.json", b"one")
    assert not storage.put_new("head.json", b"two")
    assert storage.get("head.json") == b"one"


def test_files_and_folders_are_listed_sorted(storage: Storage) -> None:
    assert storage.files("shifts") == []
    assert storage.folders("shifts") == []
    for name in ("shifts/b/images/s1/1.png", "shifts/a/x.json", "shifts/a/index/y.json", "other/z"):
        storage.put(name, b"")
    assert storage.files("shifts") == ["shifts/a/index/y.json", "shifts/a/x.json", "shifts/b/images/s1/1.png"]
    assert storage.files("shifts/a") == ["shifts/a/index/y.json", "shifts/a/x.json"]
    assert storage.folders("shifts") == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.hidden", "a\\b", "a/\n"]
)
def test_a_name_that_leads_elsewhere_is_refused(storage: Storage, name: str) -> None:
    for call in (storage.get, storage.delete, lambda n: storage.put(n, b""), checked_name):
        with pytest.raises(ValueError, match="archive file name"):
            call(name)


def test_an_archive_on_s3_is_as_one_on_disk(client: Any, server: str, tmp_path: Path) -> None:
    line = ArchiveLine(tmp_path)
    line.storage = open_storage(f"s3://{BUCKET}/plant/a", endpoint=server)
    for _ in range(2):
        sink = line.sink(format="parquet")
        for trigger in range(4):
            made, _ = line.inspected(int(line.clock.monotonic()) + trigger, Decision.REJECT)
            line.mapped(made.part)
        line.turn(sink)
        sink.close()
        line.clock.advance(8 * 3600)
    sink = line.sink(format="parquet")
    line.turn(sink)
    sink.close()
    verifier = Verifier(line.storage, 0, 2**62)
    rows = [row for _, row in verifier.rows()]
    assert sorted(row.part for row in rows if row.kind == VERDICT and row.part) == sorted(
        PartKey("s1", 1, trigger) for trigger in (*range(4), *range(28820, 28824))
    )
    assert verifier.found.flaws == []
    assert len(verifier.found.sealed) == 2
    assert list(tmp_path.glob("shifts/**/*")) == []
    key = next(n for n in line.storage.files("shifts") if n.endswith("-rgb.png"))
    client.put_object(Bucket=BUCKET, Key=f"plant/a/{key}", Body=b"another picture")
    verifier = Verifier(line.storage, 0, 2**62)
    list(verifier.rows())
    assert [flaw.says.partition(":")[0] for flaw in verifier.found.flaws] == ["was changed"]


def test_mistakes_are_told_before_anything_is_read(client: Any, server: str) -> None:
    with pytest.raises(SettingsError, match="NoSuchBucket"):
        open_storage("s3://no-such-bucket/x", endpoint=server)
    with pytest.raises(SettingsError, match="s3://BUCKET/PREFIX"):
        open_storage("s3://", endpoint=server)
    with pytest.raises(SettingsError, match="use a folder"):
        open_storage("ftp://host/x")
    with pytest.raises(SettingsError, match="endpoint"):
        open_storage(f"s3://{BUCKET}", endpoint="not a url")


def test_without_keys_it_says_which_to_set(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID"):
        open_storage(f"s3://{BUCKET}", endpoint=server)


def test_a_store_that_is_away_is_an_error_that_may_pass(keys: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ArchiveError, match="could not open") as caught:
            open_storage(f"s3://{BUCKET}", endpoint=f"http://127.0.0.1:{port}")
    assert caught.value.retriable
    assert "a-secret" not in str(caught.value)


def test_a_store_that_goes_away_holds_the_archive_up_and_loses_nothing(keys: None, tmp_path: Path) -> None:
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    line = ArchiveLine(tmp_path)
    line.storage = open_storage(f"s3://{BUCKET}", endpoint=f"http://{host}:{port}")
    sink = line.sink()
    line.inspected(1, Decision.REJECT)
    line.turn(sink, 1)
    running.stop()
    waits = 0
    sleep = line.clock.sleep

    def wait(seconds: float) -> None:
        nonlocal running, waits
        sleep(seconds)
        waits += 1
        if waits == 2:
            # It comes back with what it had.
            running = ThreadedMotoServer("127.0.0.1", port, verbose=False)
            running.start()

    line.clock.sleep = wait  # type: ignore[method-assign]
    line.turn(sink, 20)
    sink.close()
    running.stop()
    assert waits >= 2
    assert line.committed() == 1
