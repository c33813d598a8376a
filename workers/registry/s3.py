"""Bundles in an S3-compatible store, PREFIX/PRODUCT/VERSION/manifest.json and what lies beside it.

Keys, region and endpoint come from the environment as any S3 tool takes them (``AWS_ENDPOINT_URL_S3`` names a
store that is not Amazon's). An object is there whole or not at all, and a bundle is there when its manifest
is: that one is written last.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.bundle import MANIFEST, MAX_MANIFEST, MAX_TENSORS
from inference.errors import BundleError
from workers.address import check_endpoint
from workers.errors import RegistryError, SettingsError
from workers.registry.entry import Entry

MAX_BYTES = MAX_TENSORS + MAX_MANIFEST + 64 * 2**20
"""Of one bundle: its tensors, its manifest, and the pictures and grants beside them."""
MAX_FILES = 64
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_CHUNK = 2**20
_GONE = {"NoSuchKey", "404"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_MISTAKES = {"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}


class S3Store:
    """Bundles under ``s3://BUCKET/PREFIX``; see ``workers.registry.bundles.Store``. Asks nobody when made.

    Args:
        bucket: it must exist.
        prefix: in front of every key; may be empty.
        endpoint: URL of a store that is not Amazon's.
        timeout_s: for connecting and for each answer.

    Raises:
        SettingsError: boto3 is missing, or the endpoint is no URL.
    """

    def __init__(
        self, bucket: str, prefix: str, *, endpoint: str | None = None, timeout_s: float = 10.0
    ) -> None:
        try:
            import boto3.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        except ModuleNotFoundError:
            raise SettingsError(
                "a store of bundles on S3 needs boto3: pip install 'crosscheck[s3]'"
            ) from None
        self._client_error: type[Any] = ClientError
        self._no_keys: type[Exception] = NoCredentialsError
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")
        self._abandoned = threading.Event()
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        check_endpoint(endpoint)
        try:
            self._client: Any = boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(
                f"store {self.where}: {error}; check AWS_ENDPOINT_URL_S3 and the region"
            ) from None

    def entries(self, *, digests: bool = False) -> list[Entry]:
        """Every bundle that has its manifest."""
        found: list[Entry] = []
        with self._guarded("list bundles"):
            for item in self._objects(self._prefix):
                pieces = item["Key"][len(self._prefix) :].split("/")
                if len(pieces) == 3 and pieces[2] == MANIFEST and all(map(_FILE.match, pieces)):
                    found.append(
                        Entry(
                            product=pieces[0],
                            version=pieces[1],
                            digest=self._digest(item["Key"]) if digests else None,
                            at=item["LastModified"].timestamp(),
                            where="store",
                        )
                    )
        return found

    def _digest(self, key: str) -> str:
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        return hashlib.sha256(body.read(MAX_MANIFEST + 1)).hexdigest()

    def download(self, product: str, version: str, folder: Path) -> None:
        """Write the files of a bundle into an empty folder."""
        start = f"{self._prefix}{product}/{version}/"
        with self._guarded(f"fetch {product}/{version}"):
            items = {item["Key"][len(start) :]: item for item in self._objects(start)}
            if MANIFEST not in items:
                raise BundleError(f"{self.where}/{product}/{version}: there is no such bundle in the store")
            # What lies deeper is not ours: a bundle is flat.
            files = {name: item for name, item in items.items() if _FILE.match(name)}
            if len(files) > MAX_FILES or sum(item["Size"] for item in files.values()) > MAX_BYTES:
                raise BundleError(
                    f"{self.where}/{product}/{version}: more than {MAX_FILES} files or {MAX_BYTES} bytes:"
                    " that is no bundle of ours"
                )
            for name, item in files.items():
                self._write(item["Key"], folder / name, item["Size"])
                at = item["LastModified"].timestamp()
                os.utime(folder / name, (at, at))

    def _write(self, key: str, path: Path, size: int) -> None:
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        with path.open("wb") as file:
            for chunk in body.iter_chunks(_CHUNK):
                file.write(chunk)
                if self._abandoned.is_set():
                    raise RegistryError(f"store {self.where}: {key} was not read to its end: we are to stop")
                if file.tell() > size:
                    raise BundleError(f"{self.where}: {key} grew while it was read; fetch it again")
            file.flush()
            os.fsync(file.fileno())

    def upload(self, bundle: Path, product: str, version: str) -> None:
        """Put a bundle there, its manifest last."""
        start = f"{self._prefix}{product}/{version}/"
        taken = BundleError(
            f"{self.where}/{product}/{version}: this version is there already, and is never overwritten"
        )
        with self._guarded(f"push {product}/{version}"):
            if any(item["Key"] == start + MANIFEST for item in self._objects(start)):
                raise taken
            for path in sorted(bundle.iterdir()):
                if path.is_file() and path.name != MANIFEST and _FILE.match(path.name):
                    self._client.upload_file(str(path), self._bucket, start + path.name)
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=start + MANIFEST,
                    Body=(bundle / MANIFEST).read_bytes(),
                    IfNoneMatch="*",
                )
            except self._client_error as error:
                if self._code(error) in _TAKEN:
                    raise taken from None
                raise

    def abandon(self) -> None:
        """End a download that runs on another thread."""
        self._abandoned.set()

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            yield from page.get("Contents", ())

    def _code(self, error: Exception) -> str:
        if isinstance(error, self._client_error):
            return str(error.response.get("Error", {}).get("Code", ""))
        return ""

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._no_keys:
            raise SettingsError(
                f"store {self.where}: no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except self._errors as error:
            code = self._code(error)
            if code in _MISTAKES:
                raise SettingsError(
                    f"store {self.where}: could not {what}: {code}; check the bucket and what its keys may do"
                ) from None
            if code in _GONE:
                raise BundleError(
                    f"store {self.where}: could not {what}: it went while it was read"
                ) from None
            raise RegistryError(
                f"store {self.where}: could not {what}: {code or type(error).__name__}; check that it runs"
            ) from None
