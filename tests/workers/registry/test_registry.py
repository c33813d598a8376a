"""Bundles on disk and in a store: there whole, with the digest that was asked for, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from inference.bundle import read_bundle, write_bundle
from inference.errors import BundleError
from workers.errors import RegistryError, SettingsError
from workers.registry import Registry, open_registry
from workers.registry.s3 import S3Store

BUCKET = "bundles"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of an S3 store on loopback."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the store, and an empty bucket in it."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "an-id"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL_S3", server),
    ):
        monkeypatch.setenv(name, value)
    made = boto3.client("s3")
    made.create_bucket(Bucket=BUCKET)
    yield made
    for item in made.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        made.delete_object(Bucket=BUCKET, Key=item["Key"])
    made.delete_bucket(Bucket=BUCKET)
    made.close()


def bundle(models: Path, version: str, value: float = 1.0, product: str = "cap") -> str:
    """A bundle that can be read, whatever it would judge; returns its digest."""
    path = write_bundle(models, product, version, {"what": "a test's"}, {"x": torch.full((64,), value)})
    return read_bundle(path).digest


@pytest.fixture
def stored(client: Any, tmp_path: Path) -> Registry:
    """A registry with an empty folder, and two bundles in its store."""
    teacher = tmp_path / "teacher"
    for version in ("2", "10"):
        bundle(teacher, version, float(version))
        S3Store(BUCKET, "plant/a").upload(teacher / "cap" / version, "cap", version)
    return open_registry(tmp_path / "models", f"s3://{BUCKET}/plant/a")


def left(registry: Registry) -> list[str]:
    """What lies in the product's folder."""
    folder = registry.folder / "cap"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_bundle_is_fetched_whole_and_found_without_the_store_from_then_on(
    stored: Registry, client: Any
) -> None:
    assert stored.highest() == {"cap": "10"}
    assert stored.here() == {}
    path = stored.fetch("cap", "10")
    assert read_bundle(path).name == "cap"
    assert path == stored.folder / "cap" / "10"
    assert left(stored) == ["10"]
    for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    assert stored.fetch("cap", "10") == path
    assert stored.highest() == {"cap": "10"}


def test_the_list_names_every_bundle_once_with_its_digest(stored: Registry, tmp_path: Path) -> None:
    stored.fetch("cap", "2")
    bundle(stored.folder, "3", product="lid")
    found = stored.entries(digests=True)
    assert [(e.product, e.version, e.where) for e in found] == [
        ("cap", "2", "folder"),
        ("cap", "10", "store"),
        ("lid", "3", "folder"),
    ]
    assert found[1].digest == read_bundle(tmp_path / "teacher" / "cap" / "10").digest
    assert all(e.at > 1.6e9 for e in found)


@pytest.mark.parametrize("damage", ["tensors", "manifest", "gone"])
def test_a_damaged_bundle_is_refused_and_leaves_nothing_behind(
    stored: Registry, client: Any, damage: str
) -> None:
    key = f"plant/a/cap/10/{'manifest.json' if damage == 'manifest' else 'tensors.safetensors'}"
    raw = bytearray(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    raw[-2] ^= 1
    if damage == "gone":
        client.delete_object(Bucket=BUCKET, Key=key)
    else:
        client.put_object(Bucket=BUCKET, Key=key, Body=bytes(raw))
    with pytest.raises(BundleError):
        stored.fetch("cap", "10")
    with pytest.raises(BundleError):
        stored.check("cap", "10")
    assert left(stored) == []


def test_another_digest_than_the_one_that_is_meant_is_refused_wherever_it_lies(stored: Registry) -> None:
    with pytest.raises(BundleError, match=r"s3://bundles/plant/a/cap/10.*two bundles have one name"):
        stored.fetch("cap", "10", "0" * 64)
    assert left(stored) == []
    path = stored.fetch("cap", "10")
    with pytest.raises(BundleError, match="two bundles have one name"):
        stored.fetch("cap", "10", "0" * 64)
    assert stored.fetch("cap", "10", read_bundle(path).digest) == path


def test_a_bundle_under_another_products_name_is_refused(stored: Registry, client: Any) -> None:
    for name in ("manifest.json", "tensors.safetensors"):
        source = {"Bucket": BUCKET, "Key": f"plant/a/cap/2/{name}"}
        client.copy_object(Bucket=BUCKET, Key=f"plant/a/lid/2/{name}", CopySource=source)
    with pytest.raises(BundleError, match="its manifest says cap/2"):
        stored.fetch("lid", "2")


def test_what_lies_deeper_or_would_lead_elsewhere_is_not_written(
    stored: Registry, client: Any, tmp_path: Path
) -> None:
    for name in ("sub/file", "../../escaped", ".hidden"):
        client.put_object(Bucket=BUCKET, Key=f"plant/a/cap/10/{name}", Body=b"x")
    path = stored.fetch("cap", "10")
    assert {file.name for file in path.iterdir()} == {"manifest.json", "tensors.safetensors"}
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(("product", "version"), [("..", "1"), ("cap", "../1"), ("a/b", "1"), ("cap", "")])
def test_a_name_that_leads_elsewhere_is_refused(stored: Registry, product: str, version: str) -> None:
    with pytest.raises(BundleError, match="use 1 to 64"):
        stored.fetch(product, version)


def test_a_store_that_is_away_is_told_as_such_and_what_is_here_can_be_had(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{probe.getsockname()[1]}")
        away = Registry(tmp_path, S3Store(BUCKET, "plant", timeout_s=1.0))
        bundle(tmp_path, "1")
        assert away.fetch("cap", "1").is_dir()
        with pytest.raises(RegistryError, match="s3://bundles/plant"):
            away.fetch("cap", "2")
        with pytest.raises(RegistryError):
            away.entries()


def test_a_bucket_that_is_not_there_is_a_wrong_setting(client: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NoSuchBucket"):
        open_registry(tmp_path, "s3://elsewhere/plant").entries()


def test_a_version_that_is_in_the_store_is_never_overwritten(stored: Registry, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "teacher" / "cap" / "2")
    bundle(tmp_path / "teacher", "2", 7.0)
    assert stored.store is not None
    with pytest.raises(BundleError, match="never overwritten"):
        stored.store.upload(tmp_path / "teacher" / "cap" / "2", "cap", "2")


def test_what_a_killed_process_had_begun_to_fetch_is_no_bundle_and_is_swept_later(stored: Registry) -> None:
    draft = stored.folder / "cap" / ".fetch-10-dead"
    draft.mkdir(parents=True)
    (draft / "manifest.json").write_text("{}")
    assert stored.here() == {}
    stored.fetch("cap", "2")
    assert left(stored) == [".fetch-10-dead", "2"]
    os.utime(draft, (1, 1))
    stored.fetch("cap", "10")
    assert left(stored) == ["10", "2"]


@pytest.mark.parametrize("store", ["bucket/prefix", "https://host/x", "s3:///prefix"])
def test_a_store_that_is_no_place_is_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(SettingsError, match="s3://BUCKET/PREFIX"):
        open_registry(tmp_path, store)


def test_without_a_store_a_bundle_that_is_not_here_names_what_helps(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="crosscheck teach"):
        open_registry(tmp_path, None)
    bundle(tmp_path, "1")
    with pytest.raises(BundleError, match="CROSSCHECK_MODEL_STORE"):
        open_registry(tmp_path, None).fetch("cap", "2")
