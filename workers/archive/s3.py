"""An archive in an S3-compatible store, by boto3; keys and region come from the environment as usual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workers.address import check_endpoint
from workers.archive.storage import checked_name
from workers.errors import ArchiveError, SettingsError

_GONE = {"NoSuchKey", "404"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_MISTAKES = {"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}


class S3Storage:
    """Objects under ``s3://BUCKET/PREFIX``; see ``Storage``. An object is there whole or not at all.

    Args:
        bucket: it must exist.
        prefix: in front of every key; may be empty.
        endpoint: URL of a store that is not Amazon's; ``AWS_ENDPOINT_URL_S3`` does the same.
        timeout_s: for connecting and for each answer.

    Raises:
        SettingsError: boto3 is missing, no such bucket, or it may not be used with these keys.
        ArchiveError: nobody answers.
    """

    def __init__(
        self, bucket: str, prefix: str, *, endpoint: str | None = None, timeout_s: float = 10.0
    ) -> None:
        try:
            import boto3.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        except ModuleNotFoundError:
            raise SettingsError("an archive on S3 needs boto3: pip install 'crosscheck[s3]'") from None
        self._client_error: type[Any] = ClientError
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError, OSError)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.where = f"s3://{bucket}/{prefix}"
        check_endpoint(endpoint)
        try:
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint,
                config=Config(
                    connect_timeout=timeout_s,
                    read_timeout=timeout_s,
                    # The sink tries again by itself, for as long as it takes, and says so.
                    retries={"total_max_attempts": 2, "mode": "standard"},
                ),
            )
            self._client.list_objects_v2(Bucket=bucket, Prefix=self._prefix, MaxKeys=1)
        except NoCredentialsError:
            raise SettingsError(
                f"archive {self.where}: no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except ValueError as error:
            raise SettingsError(f"archive {self.where}: {error}; check the endpoint and the name") from None
        except self._errors as error:
            if self._code(error) in _MISTAKES:
                raise SettingsError(
                    f"archive {self.where}: {self._code(error)}; check the bucket and what its keys may do"
                ) from None
            raise self._away("open", error) from None

    def put(self, name: str, data: bytes) -> None:
        with self._guarded(f"write {name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def put_new(self, name: str, data: bytes) -> bool:
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
        except self._errors as error:
            if self._code(error) in _TAKEN:
                return False
            raise self._away(f"write {name}", error) from None
        return True

    def get(self, name: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            return bytes(answer["Body"].read())
        except self._errors as error:
            if self._code(error) in _GONE:
                return None
            raise self._away(f"read {name}", error) from None

    def files(self, folder: str) -> list[str]:
        with self._guarded(f"list {folder}"):
            cut = len(self._prefix)
            return sorted(
                item["Key"][cut:]
                for page in self._pages(f"{self._key(folder)}/")
                for item in page.get("Contents", ())
            )

    def folders(self, folder: str) -> list[str]:
        with self._guarded(f"list {folder}"):
            start = f"{self._key(folder)}/"
            return sorted(
                item["Prefix"][len(start) : -1]
                for page in self._pages(start, Delimiter="/")
                for item in page.get("CommonPrefixes", ())
            )

    def delete(self, name: str) -> None:
        with self._guarded(f"delete {name}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def _key(self, name: str) -> str:
        return self._prefix + checked_name(name)

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, Prefix=prefix, **options)

    def _code(self, error: Exception) -> str:
        if isinstance(error, self._client_error):
            return str(error.response.get("Error", {}).get("Code", ""))
        return ""

    def _away(self, what: str, error: Exception) -> ArchiveError:
        why = self._code(error) or type(error).__name__
        return ArchiveError(
            f"archive {self.where}: could not {what}: {why}; check that the store runs and has space"
        )

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise self._away(what, error) from None
