"""An archive in a local folder: each file is written aside, synced, and moved to its name in one step."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.archive.storage import checked_name
from workers.durable import sync_folder
from workers.errors import ArchiveError

_ASIDE = ".aside"


class LocalStorage:
    """Files in a folder; see ``Storage``. What a crash leaves half written lies in ``.aside`` only.

    Raises:
        ArchiveError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = str(root)
        self._aside = root / _ASIDE
        with self._guarded("open"):
            self._aside.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        target = self._target(name)
        with self._guarded(f"write {name}"), self._written(target, data) as aside:
            aside.replace(target)
            sync_folder(target.parent)

    def put_new(self, name: str, data: bytes) -> bool:
        target = self._target(name)
        with self._guarded(f"write {name}"), self._written(target, data) as aside:
            try:
                # A link, unlike a rename, refuses a name that is taken: also by another process just now.
                os.link(aside, target)
            except FileExistsError:
                return False
            sync_folder(target.parent)
        return True

    def get(self, name: str) -> bytes | None:
        with self._guarded(f"read {name}"):
            try:
                return self._target(name).read_bytes()
            except FileNotFoundError:
                return None

    def files(self, folder: str) -> list[str]:
        with self._guarded(f"list {folder}"):
            found = []
            for base, folders, names in os.walk(self._target(folder)):
                folders[:] = [name for name in folders if not name.startswith(".")]
                at = Path(base).relative_to(self._root)
                found += [str(at / name) for name in names if not name.startswith(".")]
            return sorted(found)

    def folders(self, folder: str) -> list[str]:
        with self._guarded(f"list {folder}"):
            try:
                entries = list(os.scandir(self._target(folder)))
            except FileNotFoundError:
                return []
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))

    def delete(self, name: str) -> None:
        with self._guarded(f"delete {name}"):
            self._target(name).unlink(missing_ok=True)

    def _target(self, name: str) -> Path:
        return self._root / checked_name(name)

    @contextmanager
    def _written(self, target: Path, data: bytes) -> Iterator[Path]:
        """A synced file beside the tree; removed again if it was not moved away."""
        made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in made:
            sync_folder(folder.parent)
        self._aside.mkdir(parents=True, exist_ok=True)
        aside = self._aside / f"{os.getpid()}-{threading.get_ident()}"
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield aside
        finally:
            with suppress(OSError):
                aside.unlink()

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(
                f"archive {self.where}: could not {what}: {error.strerror}; "
                "free space there, or make the folder writable"
            ) from None
