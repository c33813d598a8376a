"""A chunk while it is being filled: its rows wait in memory, its images are in the archive at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.part import PartKey
from workers.archive.index import Filed, Index, folder_of
from workers.archive.rows import Format, Row, digest_of, write_rows
from workers.archive.storage import Storage


@dataclass(slots=True)
class Chunk:
    """What has been read of one partition since its last chunk was put into the archive.

    Attributes:
        index: what it will say of itself.
        opened_at: monotonic seconds.
        digests: of each verdict in it, to tell a repeat from a conflict.
    """

    index: Index
    opened_at: float
    rows: list[Row] = field(default_factory=list)
    digests: dict[PartKey, str] = field(default_factory=dict)

    def keep(self, storage: Storage, name: str, data: bytes, **facts: object) -> None:
        """Put one file beside the rows, now. Raises ArchiveError."""
        if any(filed.name == name for filed in self.index.files[-8:]):
            return
        storage.put(f"{folder_of(self.index.shift.name)}/{name}", data)
        self.index.files.append(Filed.of(name, data, **facts))

    def write(self, storage: Storage, chosen: Format) -> bool:
        """Put the table and then the index into the archive; False where another process has filed it.

        Calling it again after an error is safe.

        Raises:
            ArchiveError: the store is away; nothing may be committed.
        """
        index = self.index
        if self.rows:
            data = write_rows(self.rows, chosen)
            # With its digest: a process that was stopped must not write over its successor's table later.
            name = f"verdicts/{index.stem}-{digest_of(data)[:12]}.{chosen}"
            storage.put(f"{folder_of(index.shift.name)}/{name}", data)
            index.files = [filed for filed in index.files if filed.name != index.rows]
            index.files.append(Filed.of(name, data))
            index.rows = name
        return storage.put_new(index.name, index.to_bytes())
