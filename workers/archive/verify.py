"""Whether an archive is what its manifests say: every file there and unchanged, no shift taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from workers.archive.index import HEAD, MANIFEST, Index, folder_of, loaded
from workers.archive.rows import Told, digest_of, read_rows
from workers.archive.shifts import NS, start_of
from workers.archive.state import Sealed, read_sealed, shift_names
from workers.archive.storage import Storage


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something about the archive that does not hold: where, and what."""

    where: str
    says: str


@dataclass(slots=True)
class Checked:
    """What was found in an archive.

    Attributes:
        sealed, open: names of the shifts looked at, by whether they have their manifest.
        files: how many files were compared with their digests.
        gaps: records that Kafka had deleted before they were archived.
    """

    sealed: list[str]
    open: list[str]
    files: int
    flaws: list[Flaw]
    gaps: int
    images_gone: int


class Verifier:
    """Reads an archive's shifts from ``since`` to ``until``, nanoseconds since the epoch.

    Rows are given only from files whose digests hold; the others are flaws.
    """

    def __init__(self, storage: Storage, since: int, until: int) -> None:
        self._storage = storage
        self._since, self._until = since, until
        self.found = Checked([], [], 0, [], 0, 0)

    def rows(self) -> Iterator[tuple[str, Told]]:
        """Every row of the shifts, with the file it stands in.

        Raises:
            ArchiveError: the store is away.
            SettingsError: a table is Parquet and pyarrow is missing.
        """
        names = shift_names(self._storage)
        manifests = self._chain(names)
        for name in names:
            sealed = manifests.get(name)
            if not self._wanted(name, sealed):
                continue
            if sealed is None:
                self.found.open.append(name)
                yield from self._open(name)
            else:
                self.found.sealed.append(name)
                yield from self._sealed(sealed)

    def _wanted(self, name: str, sealed: Sealed | None) -> bool:
        start = start_of(name) or 0
        # A verdict that came when its shift was sealed is filed under the next ones.
        if start > self._until + 86_400 * NS:
            return False
        return not (sealed is not None and int(sealed.manifest["end"]) + 86_400 * NS < self._since)

    def _chain(self, names: list[str]) -> dict[str, Sealed]:
        """All manifests, whether wanted or not: the chain holds from the first to the last, or not at all."""
        found: dict[str, Sealed] = {}
        before: Sealed | None = None
        for name in names:
            try:
                sealed = read_sealed(self._storage, name)
                if sealed is None:
                    continue
                said = sealed.manifest["previous"]
                found[name] = sealed
            except (ValueError, KeyError) as error:
                self._flaw(f"{name}/{MANIFEST}", f"cannot be read ({error})")
                continue
            if said is None:
                if before is not None:
                    self._flaw(name, f"says that no shift came before it, but {before.name} did")
            elif before is None:
                self._flaw(str(said["shift"]), f"is gone: {name} was sealed on top of it")
            elif before.name != said["shift"]:
                self._flaw(str(said["shift"]), f"is gone, or was changed: {name} was sealed on top of it")
            elif before.sha256 != said["sha256"]:
                self._flaw(f"{before.name}/{MANIFEST}", f"was changed after {name} was sealed on top of it")
            before = sealed
        self._head(before)
        return found

    def _head(self, last: Sealed | None) -> None:
        data = self._storage.get(HEAD)
        if data is None:
            if last is not None:
                self._flaw(HEAD, "is gone: it names the newest sealed shift")
            return
        try:
            head = loaded(data)
            name, sha256 = str(head["shift"]), str(head["sha256"])
        except (ValueError, KeyError):
            self._flaw(HEAD, "cannot be read")
            return
        if last is None or last.name < name:
            self._flaw(name, f"is gone: {HEAD} names it as the newest sealed shift")
        elif last.name == name and last.sha256 != sha256:
            self._flaw(f"{name}/{MANIFEST}", f"was changed: {HEAD} has another digest")

    def _sealed(self, sealed: Sealed) -> Iterator[tuple[str, Told]]:
        folder, files = folder_of(sealed.name), sealed.manifest["files"]
        present = {name[len(folder) + 1 :] for name in self._storage.files(folder)} - {MANIFEST}
        for name in sorted(present - files.keys()):
            self._flaw(f"{sealed.name}/{name}", "was added after the shift was sealed")
        self.found.gaps += sum(int(gap["to"]) - int(gap["from"]) for gap in sealed.manifest["gaps"])
        self.found.images_gone += int(sealed.manifest["counts"].get("images_gone", 0))
        for name, told in files.items():
            data = self._whole(f"{folder}/{name}", f"{sealed.name}/{name}", told["sha256"])
            if data is not None and name.startswith("verdicts/"):
                yield from self._table(f"{sealed.name}/{name}", data)

    def _open(self, name: str) -> Iterator[tuple[str, Told]]:
        folder = folder_of(name)
        for path in self._storage.files(f"{folder}/index"):
            try:
                index = Index.from_bytes(self._storage.get(path) or b"")
            except ValueError as error:
                self._flaw(path[len("shifts/") :], str(error))
                continue
            self.found.gaps += sum(gap["to"] - gap["from"] for gap in index.gaps)
            self.found.images_gone += index.counts.get("images_gone", 0)
            for filed in index.files:
                where = f"{name}/{filed.name}"
                data = self._whole(f"{folder}/{filed.name}", where, filed.sha256)
                if data is not None and filed.name == index.rows:
                    yield from self._table(where, data)

    def _whole(self, path: str, where: str, sha256: str) -> bytes | None:
        self.found.files += 1
        try:
            data = self._storage.get(path)
        except ValueError:
            self._flaw(where, "is named by a manifest and is no name that the archive makes")
            return None
        if data is None:
            self._flaw(where, "is gone")
        elif digest_of(data) != sha256:
            self._flaw(where, "was changed: its digest is not the one in the manifest")
            return None
        return data

    def _table(self, where: str, data: bytes) -> Iterator[tuple[str, Told]]:
        try:
            rows = read_rows(where, data)
        except (ValueError, json.JSONDecodeError) as error:
            self._flaw(where, f"cannot be read: {error}")
            return
        for row in rows:
            yield where, row

    def _flaw(self, where: str, says: str) -> None:
        self.found.flaws.append(Flaw(where, says))
