"""Where an archive's files are kept: a local folder or an S3-compatible store, behind one small protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from workers.address import bucket_of, shown
from workers.errors import ArchiveError, SettingsError

_PIECE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\Z")


class Storage(Protocol):
    """Immutable files under relative names. A write is durable and whole when the call returns.

    Every method raises ArchiveError while the store is away, full or refuses; trying again may help.
    """

    where: str
    """The place, for messages; never with a secret."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file; one that is there is replaced as a whole."""
        ...

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a file unless one of that name is there: whether this call wrote it."""
        ...

    def get(self, name: str) -> bytes | None:
        """The bytes of a file, or None where there is none."""
        ...

    def files(self, folder: str) -> list[str]:
        """The names of all files under a folder, at any depth, sorted; relative to the archive's root."""
        ...

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted; without the path that leads there."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...


def checked_name(name: str) -> str:
    """A relative name whose pieces can be file names everywhere, and lead nowhere else.

    Raises:
        ValueError: an empty piece, one that begins with a dot, or characters that could lead elsewhere.
    """
    if not name or not all(_PIECE.match(piece) for piece in name.split("/")):
        raise ValueError(f"archive file name {name[:200]!r}: not one that this program makes")
    return name


def open_storage(place: str, *, endpoint: str | None = None, create: bool = False) -> Storage:
    """The storage of an archive.

    Args:
        place: a folder, or ``s3://BUCKET/PREFIX``.
        endpoint: URL of an S3-compatible store that is not Amazon's; its keys come from the environment.
        create: make a local folder that does not exist.

    Raises:
        SettingsError: not a place, or one that cannot be used.
        ArchiveError: the store does not answer.
    """
    if place.startswith("s3://"):
        bucket, prefix = bucket_of("archive", place)
        from workers.archive.s3 import S3Storage

        return S3Storage(bucket, prefix, endpoint=endpoint)
    if "://" in place:
        raise SettingsError(f"archive {shown(place)}: use a folder, or s3://BUCKET/PREFIX")
    from workers.archive.local import LocalStorage

    folder = Path(place)
    if not create and not folder.is_dir():
        raise SettingsError(
            f"archive {place}: no such folder; name the one that `crosscheck archive --to` wrote"
        )
    try:
        return LocalStorage(folder)
    except ArchiveError as error:
        raise SettingsError(str(error)) from None
