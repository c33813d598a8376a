"""Sealing a shift: one manifest over all of its chunks, chained to the manifest of the shift before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import structlog

from workers.archive.index import HEAD, INDEX, VERSION, dumped, folder_of, manifest_of
from workers.archive.ranges import PartRanges
from workers.archive.rows import digest_of
from workers.archive.shifts import Shift
from workers.archive.state import Sealed, State, read_indexes, read_sealed
from workers.archive.storage import Storage
from workers.errors import ArchiveError

log = structlog.get_logger(__name__)


def seal(
    storage: Storage, state: State, shift: Shift, *, verdict_topic: str, now: int, facts: dict[str, Any]
) -> Sealed:
    """Write the manifest of a shift to which nothing will be added.

    Calling it again after an error is safe; where another process has sealed the shift, its manifest holds.

    Raises:
        ArchiveError: the store is away.
    """
    folder = folder_of(shift.name)
    indexes = read_indexes(storage, shift.name)
    files: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    parts = PartRanges()
    gaps: list[dict[str, Any]] = []
    following = {
        str_place: {"era": position.era, "next": position.next}
        for place, position in sorted(state.positions.items())
        if (str_place := f"{place.topic}/{place.partition}")
    }
    for index in indexes:
        data = index.to_bytes()
        files[f"{INDEX}/{index.stem}.json"] = {"sha256": digest_of(data), "bytes": len(data)}
        for filed in index.files:
            files[filed.name] = {"sha256": filed.sha256, "bytes": filed.size, **filed.facts}
        counts.update(index.counts)
        if index.place.topic == verdict_topic:
            parts.update(index.parts)
        gaps += [
            {"topic": index.place.topic, "partition": index.place.partition, **gap} for gap in index.gaps
        ]
    _tidy(storage, folder, files)
    manifest = {
        "v": VERSION,
        "shift": shift.name,
        "start": shift.start,
        "end": shift.end,
        "sealed_at": now,
        "previous": None if state.last is None else {"shift": state.last.name, "sha256": state.last.sha256},
        **facts,
        "counts": dict(sorted(counts.items())),
        "parts": parts.to_json(),
        "gaps": gaps,
        "next": following,
        "files": dict(sorted(files.items())),
    }
    storage.put_new(manifest_of(shift.name), dumped(manifest))
    try:
        sealed = read_sealed(storage, shift.name)
    except ValueError as error:
        raise ArchiveError(
            f"archive {storage.where}: the manifest of {shift.name} is damaged ({error})"
        ) from None
    if sealed is None:
        raise ArchiveError(
            f"archive {storage.where}: the manifest of {shift.name} was written and is not there"
        )
    write_head(storage, sealed)
    log.info("archive.sealed", shift=shift.name, files=len(files), sha256=sealed.sha256)
    return sealed


def write_head(storage: Storage, sealed: Sealed) -> None:
    """Name the newest sealed shift at the archive's root."""
    storage.put(HEAD, dumped({"v": VERSION, "shift": sealed.name, "sha256": sealed.sha256}))


def _tidy(storage: Storage, folder: str, files: dict[str, dict[str, Any]]) -> None:
    """Remove what a process that died had written and not put in an index: its records were filed again."""
    for name in storage.files(folder):
        if name[len(folder) + 1 :] not in files and name != f"{folder}/manifest.json":
            log.warning("archive.left_over", file=name)
            storage.delete(name)
