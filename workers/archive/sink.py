"""The archive sink: verdicts and heatmaps from their topics into immutable files, committed after.

    1. Poll the verdicts and the heatmaps; go on polling while the store is away.
    2. The first verdict of a part becomes a row of its partition's chunk; the same bytes again are dropped.
    3. Images of what was not passed, and a sample of what was, are fetched from where the verdict says.
    4. A chunk that is full or old is written: its table, then its index, which makes it part of the archive.
    5. Commit.
    6. A shift that is over and read to its end is sealed by a manifest.

Where to go on is read from the archive itself, never from the group's offsets alone: a chunk whose index is
there is never filed again, and one whose index is not is read again and its index gets the same name. Tables
that no index names are what a process left that died; they are removed when their shift is sealed.
"""

from __future__ import annotations

from functools import partial
from threading import Event

import structlog

from schemas.errors import CrosscheckError, SchemaError
from schemas.heatmap import Heatmap
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_heatmap, decode_verdict
from workers.archive.chunk import Chunk
from workers.archive.frames import FrameReader, images_of, shape, suffix
from workers.archive.index import Index
from workers.archive.lag import Lag
from workers.archive.options import ArchiveOptions, sampled
from workers.archive.patience import RETRY_S, Abandoned, Patience
from workers.archive.repeats import Repeats
from workers.archive.rows import DAMAGED, REPEAT, VERDICT, damaged_row, digest_of, row_of
from workers.archive.sealing import seal
from workers.archive.shifts import NS, Shift
from workers.archive.state import Position, State, load
from workers.archive.storage import Storage
from workers.bus.base import Bus, Record, TopicPartition
from workers.clock import Clock, SystemClock
from workers.errors import BusError, OffsetGap, UndecodableRecord
from workers.steps.decode import require_decoded

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.5
SEAL_CHECK_S = 10.0
GONE = "gone from Kafka"
MOST_ROWS = 20_000
"""Over all partitions: what this process holds of verdicts."""


class ArchiveSink:
    """One thread owns a sink. ``step`` is one turn of its loop; ``run`` turns until told to stop.

    Every process in the group holds some partitions; shifts are sealed by one that holds them all.
    """

    def __init__(
        self,
        bus: Bus,
        storage: Storage,
        options: ArchiveOptions,
        *,
        group: str,
        verdicts: str,
        heatmaps: str,
        frames: str,
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self._storage = storage
        self._options = options
        self._clock = clock or SystemClock()
        self._verdicts, self._heatmaps = verdicts, heatmaps
        self._frames = FrameReader(bus, frames)
        self._repeats = Repeats(storage)
        self._state = State()
        self._chunks: dict[TopicPartition, Chunk] = {}
        self._fresh: set[TopicPartition] = set()
        self._next_seal = 0.0
        self.filed = 0
        """Verdicts that are in the archive and committed."""
        self.rows = 0
        self.images = 0
        """Images and heatmaps in it."""
        self._consumer = bus.consumer(group, max_poll_records=32, name="archive")
        self._patiently = Patience(self._consumer, self._clock, storage.where)
        self.lag = Lag(self._consumer, self._clock, self._first_unfiled)
        self._consumer.subscribe({verdicts, heatmaps}, self)

    # What the group tells us, while we stand inside poll.

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        """They are read on from where the archive says, which is asked before any record is taken."""
        self._fresh |= partitions
        self._patiently.gained(partitions)

    def on_revoked(self, partitions: set[TopicPartition]) -> None:
        """What is in hand of them was not committed: their next owner reads it again."""
        for place in partitions:
            self._chunks.pop(place, None)
        self._fresh -= partitions

    on_lost = on_revoked

    # The loop.

    def run(self, stop: Event) -> None:
        """Turn until ``stop`` is set, then file what is in hand and leave the group."""
        self._patiently.stop = stop
        log.info("archive.started", to=self._storage.where)
        try:
            while not stop.is_set():
                self.step()
            self.flush()
        except Abandoned:
            log.warning("archive.left_unfiled", rows=sum(len(c.rows) for c in self._chunks.values()))
        finally:
            self.close()

    def step(self) -> int:
        """One turn of the loop; returns how many records were taken."""
        self._patiently.pulse.turned()
        records = self._poll()  # 1
        if self._fresh:
            records = self._begin(records)
        for record in records:
            self._take(record)  # 2, 3
        self._write_due()  # 4, 5
        self._seal_due()  # 6
        self.lag.look()
        return len(records)

    def trouble(self) -> str | None:
        """Why the loop does not count as moving, or None. Any thread may ask, as for ``away``."""
        return self._patiently.pulse.trouble()

    @property
    def away(self) -> str | None:
        """What it waits for: the store or the broker, in the words of the error."""
        return self._patiently.away

    def flush(self) -> None:
        """File everything that is in hand."""
        for place in list(self._chunks):
            self._write(place)

    def close(self) -> None:
        """Leave the group. Closing twice is allowed."""
        try:
            self._consumer.close()
            self._frames.close()
        except BusError as error:
            log.warning("archive.close_failed", error=str(error))
        log.info("archive.stopped", filed=self.filed)

    def _poll(self) -> list[Record]:
        waiting, self._patiently.waiting = self._patiently.waiting, []
        try:
            return waiting + self._consumer.poll(0.0 if waiting else IDLE_POLL_S)
        except OffsetGap as gap:
            self._jump(gap)
        except BusError as error:
            log.warning("archive.poll_failed", error=str(error))
            self._clock.sleep(RETRY_S)
        return waiting

    def _begin(self, records: list[Record]) -> list[Record]:
        """Read partitions that are new to us on from behind their last chunk in the archive."""
        # What this process knew may be behind what another has filed meanwhile.
        self._state = self._patiently(lambda: load(self._storage, self._verdicts))
        for chunk in self._chunks.values():
            if chunk.index.place.topic == self._verdicts:
                self._state.seen.update(chunk.index.parts)
        fresh, self._fresh = self._fresh, set()
        for place in fresh:
            known = self._state.positions.get(place)
            if known is not None:
                records = [r for r in records if r.source != place]
                self._seek(place, known.next)
        log.info("archive.assigned", partitions=sorted(map(str, fresh)))
        return records

    def _jump(self, gap: OffsetGap) -> None:
        """Records are gone unread: the archive says which, and goes on behind them."""
        place = TopicPartition(gap.topic, gap.partition)
        if place in self._fresh:
            # What the group had committed counts for nothing where the archive knows better.
            self._begin([])
            if place in self._state.positions:
                return
        log.error("archive.offset_gap", missing=gap.missing, error=str(gap))
        self._write(place)
        known = self._state.positions.get(place, Position(0, gap.wanted))
        anew = gap.wanted > gap.end
        era = known.era + anew
        index = Index(
            place=place,
            era=era,
            first=gap.wanted,
            next=gap.resume_at,
            shift=self._shift(place, self._clock.now()),
        )
        index.gaps.append({"from": gap.wanted, "to": gap.resume_at, "anew": int(anew)})
        index.counts["gaps"] += 1
        self._chunks[place] = Chunk(index, self._clock.monotonic())
        self._write(place)
        self._seek(place, gap.resume_at)

    def _seek(self, place: TopicPartition, offset: int) -> None:
        def seek() -> None:
            # It may go to another process while we wait for the broker.
            if place in self._consumer.assignment():
                self._consumer.seek(place, offset)

        self._patiently(seek)

    def _first_unfiled(self, place: TopicPartition) -> int | None:
        known, chunk = self._state.positions.get(place), self._chunks.get(place)
        return known.next if known is not None else None if chunk is None else chunk.index.first

    # 2, 3

    def _take(self, record: Record) -> None:
        place = record.source
        # It went away, perhaps to come back, while we waited for the store: it is read anew.
        if place in self._fresh or place not in self._consumer.assignment():
            return
        known, chunk = self._state.positions.get(place), self._chunks.get(place)
        at = chunk.index.next if chunk is not None else 0 if known is None else known.next
        if record.offset < at:
            return
        take = self._take_verdict if record.topic == self._verdicts else self._take_heatmap
        take(record)
        chunk = self._chunks.get(place)
        if chunk is not None and len(chunk.rows) >= self._options.max_rows:
            self._write(place)

    def _chunk(self, record: Record, when: int) -> Chunk:
        """The chunk that a record of this moment goes to; one of another shift is written first."""
        place = record.source
        shift = self._shift(place, when)
        chunk = self._chunks.get(place)
        if chunk is not None and chunk.index.shift != shift:
            self._write(place)
            chunk = None
        if chunk is None:
            known = self._state.positions.get(place)
            era, first = (0, record.offset) if known is None else (known.era, known.next)
            index = Index(place=place, era=era, first=first, next=first, shift=shift)
            chunk = self._chunks[place] = Chunk(index, self._clock.monotonic())
        return chunk

    def _shift(self, place: TopicPartition, when: int) -> Shift:
        """The shift of a moment, never one that is sealed, behind the partition's last, or to come."""
        least = self._state.floor
        known = self._state.positions.get(place)
        chunk = self._chunks.get(place)
        last = chunk.index.shift if chunk is not None else None if known is None else known.shift
        if last is not None and last.start >= least and when < last.end:
            return last
        # A clock that runs ahead somewhere must not file its verdicts under a day to come.
        found = self._options.shifts.at(max(least, min(when, self._clock.now())))
        if found.start < least:
            # The plan was changed: the sealed shift keeps what it has, this one begins at its end.
            found = Shift(least, found.end)
        return found if last is None else max(last, found)

    def _take_verdict(self, record: Record) -> None:
        try:
            require_decoded(record)
            verdict = decode_verdict(record.value)
        except (SchemaError, UndecodableRecord) as error:
            self._take_damaged(record, error)
            return
        chunk = self._chunk(record, verdict.decided_at)
        index, part = chunk.index, verdict.part
        digest = digest_of(record.value)
        if part not in self._state.seen:
            row = row_of(verdict, record, VERDICT)
            if verdict.decision is not Decision.PASS or sampled(part, self._options.sample):
                images, note = self._patiently(partial(self._keep_images, chunk, verdict))
                row["images"], row["images_note"] = images, note
                index.counts["images"] += len(images)
                index.counts["images_gone"] += note == GONE
            chunk.rows.append(row)
            chunk.digests[part] = digest
            self._state.seen.add(part)
            index.parts.add(part)
            index.counts[f"decision_{verdict.decision.value}"] += 1
        elif self._patiently(partial(self._first_digest, part)) == digest:
            index.counts["repeated"] += 1
        else:
            log.error("archive.conflict", part=str(part), decision=verdict.decision.value)
            chunk.rows.append(row_of(verdict, record, REPEAT))
            index.counts["conflicting"] += 1
        index.next = record.offset + 1

    def _first_digest(self, part: PartKey) -> str | None:
        for chunk in self._chunks.values():
            if part in chunk.digests:
                return chunk.digests[part]
        return self._repeats.first_digest(part, self._state)

    def _take_damaged(self, record: Record, error: CrosscheckError) -> None:
        log.error("archive.damaged_record", place=str(record.source), offset=record.offset, error=str(error))
        chunk = self._chunk(record, record.timestamp_ms * 1_000_000)
        index = chunk.index
        name = f"damaged/{index.stem[:-19]}{record.offset:019d}.bin"
        self._patiently(lambda: chunk.keep(self._storage, name, record.value))
        if record.topic == self._verdicts:
            chunk.rows.append(damaged_row(record, f"{error.reason}: {error}", name))
        index.counts[DAMAGED] += 1
        index.next = record.offset + 1

    def _keep_images(self, chunk: Chunk, verdict: Verdict) -> tuple[list[str], str | None]:
        kept: list[str] = []
        gone = 0
        for record in self._frames.records(verdict):
            if record is None:
                gone += 1
                continue
            for name, data, facts in images_of(verdict.part, record):
                chunk.keep(self._storage, name, data, **facts)
                kept.append(name)
        return kept, GONE if gone else None if kept else "no frame"

    def _take_heatmap(self, record: Record) -> None:
        try:
            require_decoded(record)
            heatmap = decode_heatmap(record.value)
            heatmap.image.verify()
        except (SchemaError, UndecodableRecord) as error:
            self._take_damaged(record, error)
            return
        chunk = self._chunk(record, record.timestamp_ms * 1_000_000)
        if heatmap.part not in self._state.mapped and heatmap.part not in chunk.index.parts:
            self._patiently(partial(self._keep_heatmap, chunk, heatmap))
            chunk.index.parts.add(heatmap.part)
            chunk.index.counts["heatmaps"] += 1
        chunk.index.next = record.offset + 1

    def _keep_heatmap(self, chunk: Chunk, heatmap: Heatmap) -> None:
        part, image = heatmap.part, heatmap.image
        name = f"heatmaps/{part.station}/{part.run}/{part.trigger}.{suffix(image)}"
        facts = {"mode": heatmap.mode.value, "low": heatmap.low, "high": heatmap.high, **shape(image)}
        chunk.keep(self._storage, name, image.data, **facts)

    # 4, 5

    def _write_due(self) -> None:
        now = self._clock.monotonic()
        for place, chunk in list(self._chunks.items()):
            if now - chunk.opened_at >= self._options.max_age_s:
                self._write(place)
        if sum(len(chunk.rows) for chunk in self._chunks.values()) >= MOST_ROWS:
            self.flush()

    def _write(self, place: TopicPartition) -> None:
        chunk = self._chunks.get(place)
        if chunk is None:
            return
        written = self._patiently(lambda: chunk.write(self._storage, self._options.format))
        if self._chunks.get(place) is not chunk:
            return  # it went to another process while the store was away, which has read it again
        del self._chunks[place]
        if not written:
            # Another process has filed these records: what is in hand is given up, the archive asked again.
            log.warning("archive.filed_by_another", chunk=chunk.index.name)
            self._fresh.add(place)
            return
        self._state.add(chunk.index, verdicts=place.topic == self._verdicts)
        self.filed += len(chunk.digests)
        self.rows += len(chunk.rows)
        self.images += chunk.index.counts["images"] + chunk.index.counts["heatmaps"]
        log.info("archive.filed", chunk=chunk.index.name, rows=len(chunk.rows), files=len(chunk.index.files))
        try:
            self._consumer.commit({place: chunk.index.next})
        except BusError as error:
            # The archive itself says where to go on.
            log.warning("archive.commit_failed", error=str(error))

    # 6

    def _seal_due(self) -> None:
        now, ticks = self._clock.now(), self._clock.monotonic()
        if ticks < self._next_seal:
            return
        self._next_seal = ticks + SEAL_CHECK_S
        grace = round(self._options.grace_s * NS)
        shifts = {index.shift for index in self._state.open} | {c.index.shift for c in self._chunks.values()}
        due = sorted(shift for shift in shifts if now >= shift.end + grace)
        if not due or not self._read_to_the_end():
            return
        for shift in due:
            for place, chunk in list(self._chunks.items()):
                if chunk.index.shift == shift:
                    self._write(place)
            facts = {"sample": self._options.sample, "format": self._options.format}
            self._state.last = self._patiently(
                partial(
                    seal,
                    self._storage,
                    self._state,
                    shift,
                    verdict_topic=self._verdicts,
                    now=now,
                    facts=facts,
                )
            )
            self._state.open = [index for index in self._state.open if index.shift != shift]

    def _read_to_the_end(self) -> bool:
        """Whether we hold every partition and have read all that was there a moment ago."""
        try:
            wanted = {
                TopicPartition(topic, number)
                for topic in (self._verdicts, self._heatmaps)
                for number in range(self._bus.partitions(topic) or 0)
            }
            if self._consumer.assignment() != wanted:
                log.info("archive.not_alone", why="shifts are sealed by a process that holds every partition")
                return False
            ends = self._consumer.end_offsets(wanted)
            return all((self._consumer.position(place) or 0) >= end for place, end in ends.items())
        except BusError as error:
            log.warning("archive.ask_failed", error=str(error))
            return False
