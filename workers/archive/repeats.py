"""Whether a verdict that comes again is the one that is filed: its digest is looked up in the archive."""

from __future__ import annotations

from collections import OrderedDict

from schemas.part import PartKey
from workers.archive.index import Index, folder_of
from workers.archive.rows import VERDICT, read_rows
from workers.archive.state import State, read_indexes
from workers.archive.storage import Storage

_TABLES = 4
"""Tables held at once: repeats come in runs, after a worker has died."""


class Repeats:
    """Reads tables of the archive back, a few at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tables: OrderedDict[str, dict[PartKey, str]] = OrderedDict()

    def first_digest(self, part: PartKey, state: State) -> str | None:
        """The digest of the part's filed verdict; None where its table cannot be found or read.

        Raises:
            ArchiveError: the store is away.
        """
        indexes = [index for index in reversed(state.open) if part in index.parts]
        if not indexes and state.last is not None:
            indexes = [index for index in read_indexes(self._storage, state.last.name) if part in index.parts]
        for index in indexes:
            if index.rows is not None and (digest := self._table(index).get(part)) is not None:
                return digest
        return None

    def _table(self, index: Index) -> dict[PartKey, str]:
        name = f"{folder_of(index.shift.name)}/{index.rows}"
        if name not in self._tables:
            try:
                told = read_rows(name, self._storage.get(name) or b"")
            except ValueError:
                told = []
            self._tables[name] = {
                row.part: row.digest for row in told if row.kind == VERDICT and row.part is not None
            }
            if len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(name)
        return self._tables[name]
