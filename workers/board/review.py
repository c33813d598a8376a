"""An operator's label: held in Redis, sent to the labels topic, kept with its pictures on disk."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import NoScriptError

from schemas.codes import ReasonCode
from schemas.command import Confirmation
from schemas.errors import SchemaError
from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.verdict import Verdict
from schemas.wire import decode_verdict, encode
from workers.board.feed import TO_REVIEW, Feed
from workers.board.folder import Kept, ReviewFolder
from workers.board.pictures import Images, Pictures
from workers.board.reply import Refused
from workers.board.rows import Row, label_of, row_of
from workers.board.sinks import Kafka, Redis
from workers.bus.base import Producer
from workers.clock import Clock
from workers.errors import BusError
from workers.serving.confirming import confirmation
from workers.store import keys
from workers.store.connection import guarded
from workers.store.scripts import REVIEW
from workers.store.verdicts import VerdictStore

TTL_S = 30 * 86_400
"""How long Redis keeps a label; the topic and the folder keep it longer."""
ACK_S = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a person sends of a part."""

    label: LabelKind
    note: str
    by: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """The label of a part in Redis."""

    label: LabelKind
    by: str
    at: int
    note: str
    revision: int


class Reviews:
    """Takes labels. Safe to share between threads.

    Args:
        topic: the full name of the labels topic.
        control: that of the control topic.
    """

    def __init__(
        self,
        feed: Feed,
        kafka: Kafka,
        redis: Redis,
        pictures: Pictures,
        folder: ReviewFolder,
        *,
        topic: str,
        control: str,
        clock: Clock,
    ) -> None:
        self._feed = feed
        self._kafka = kafka
        self._redis = redis
        self._pictures = pictures
        self._folder = folder
        self._topic = topic
        self._control = control
        self._clock = clock
        self._producer: Producer | None = None
        self._lock = threading.Lock()

    def find(self, part: PartKey) -> tuple[Verdict, Row] | None:
        """A part's verdict and row: from what was read lately, else from Redis.

        Raises:
            StoreError: Redis does not answer.
        """
        found = self._feed.part(part)
        if found is not None:
            return found
        raw = self._redis.get().standing(part)
        if raw is None:
            return None
        try:
            verdict = decode_verdict(raw)
        except SchemaError:
            return None
        label = self._feed.label_of(part)
        return verdict, row_of(verdict, label)

    def say(self, part: PartKey, said: Said) -> tuple[Row, Kept]:
        """Label a part, or take its label back. Once this returns, Redis and the labels topic have it, and
        of a label that is taken back the review folder too: nothing is taught by it any more.

        Raises:
            Refused: no such part, one that nobody reviews, one that is labelled otherwise, no label to be
                taken back, or a folder that cannot be written where that matters.
            StoreError, BusError: a sink is away: the label may be in Redis already, and saying it again is
                safe.
        """
        found = self.find(part)
        if found is None:
            raise Refused(404, f"part {part}: no verdict of it is known here any more")
        verdict, row = found
        if verdict.decision not in TO_REVIEW:
            raise Refused(
                409, f"part {part} ended in {verdict.decision}: only REJECT and REVIEW are reviewed"
            )
        label = self._settle(verdict, said)
        self._send(self._topic, encode(label), str(label.part).encode())
        self._tell_workers(label, verdict)
        self._feed.label(label, row)
        if label.label is LabelKind.WITHDRAWN:
            try:
                kept = self._folder.withdraw(label, verdict)
            except OSError as error:
                raise Refused(
                    503,
                    f"the label of part {part} is taken back, but still stands in the review folder"
                    f" ({error.strerror or error}): make it writable and take the label back again",
                ) from None
        else:
            kept = self._folder.keep(label, verdict, self._images(verdict))
        return row | label_of(label), kept

    def _settle(self, verdict: Verdict, said: Said) -> Label:
        """Write the label into Redis, unless another stands there."""
        part = verdict.part
        known = self._feed.label_of(part)
        if known is not None and not _gives_way(known, said):
            # Redis may have forgotten what the topic still says.
            raise _conflict(part, known.label, known.by, known.at)
        if said.label is LabelKind.WITHDRAWN and known is None and not is_labelled(self._redis.get(), part):
            raise Refused(409, f"part {part} has no label that could be taken back")
        revision = 0 if known is None else known.revision
        stands = write_label(self._redis.get(), part, said, at=self._clock.now(), revision=revision)
        if stands.label is not said.label:
            raise _conflict(part, stands.label, stands.by, stands.at)
        return Label(
            part=part,
            product=verdict.product,
            decision=verdict.decision,
            label=stands.label,
            at=stands.at,
            by=stands.by,
            note=stands.note,
            revision=stands.revision,
            mode=verdict.mode,
            score=verdict.score,
            threshold=verdict.threshold,
            bundle=verdict.bundle,
        )

    def _tell_workers(self, label: Label, verdict: Verdict) -> None:
        """A good part between the limits moves the pass limit of every worker until that is taken back.

        Raises:
            BusError: the control topic is away.
        """
        if verdict.reason != ReasonCode.BETWEEN or verdict.mode is None or verdict.score is None:
            return
        good = label.label is LabelKind.FALSE_REJECT
        if verdict.bundle is None or verdict.bundle_hash is None or not (good or label.revision > 1):
            return
        version = verdict.bundle.partition("/")[2]
        said = Confirmation(mode=verdict.mode, score=verdict.score if good else None, version=version)
        command = confirmation(verdict.part, verdict.product, said, verdict.bundle_hash, at=self._clock.now())
        self._send(self._control, encode(command), command.key)

    def _send(self, topic: str, value: bytes, key: bytes) -> None:
        """Append a record to a topic and wait until the brokers have it. Raises BusError."""
        with self._lock:
            try:
                if self._producer is None:
                    self._producer = self._kafka.get().producer(delivery_timeout=ACK_S)
                self._producer.send(topic, value, key=key, partition=0).wait(ACK_S)
            except BusError:
                self._let_go()
                raise

    def _images(self, verdict: Verdict) -> Images:
        try:
            return self._pictures.images(verdict)
        except BusError as error:
            return Images(why=f"its frame could not be read: {error}")

    def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(BusError):
                producer.close(0.0)

    def close(self) -> None:
        """Let go of the broker."""
        with self._lock:
            self._let_go()


def write_label(store: VerdictStore, part: PartKey, said: Said, *, at: int, revision: int = 0) -> Standing:
    """Write a label into Redis, where there is none or it is to be replaced; the one that stands then.

    Args:
        at: nanoseconds since the epoch.
        revision: the highest of the part that is known from elsewhere.

    Raises:
        StoreError: Redis does not answer, or refuses.
    """
    client = store.client
    key = keys.review(part)
    arguments = (said.label.value, said.by, at, said.note, TTL_S, int(said.replace), revision)
    with guarded(client, f"write the label of {part}"):
        try:
            raw = client.evalsha(REVIEW.sha, 1, key, *cast("tuple[str, ...]", arguments))
        except NoScriptError:
            raw = client.eval(REVIEW.text, 1, key, *cast("tuple[str, ...]", arguments))
    label, by, when, note, number = (each.decode() for each in cast("list[bytes]", raw))
    return Standing(LabelKind(label), by, int(when), note, int(number))


def is_labelled(store: VerdictStore, part: PartKey) -> bool:
    """Whether Redis knows a label of a part. Raises StoreError."""
    with guarded(store.client, f"read the label of {part}"):
        return store.client.hget(keys.review(part), "label") is not None


def _gives_way(known: Label, said: Said) -> bool:
    """Whether a label may be followed by another, as the script of Redis has it."""
    if said.replace or known.label in (said.label, LabelKind.WITHDRAWN):
        return True
    return said.label is LabelKind.WITHDRAWN and known.by == said.by


def _conflict(part: PartKey, label: LabelKind, by: str, at: int) -> Refused:
    return Refused(
        409,
        f'part {part} was labelled {label} by {by} meanwhile; send "replace": true to change that',
        label=label.value,
        by=by,
        at=at // 1_000_000,
    )


def said_of(body: dict[str, Any], by: str, note: str) -> Said:
    """What a request's body says.

    Raises:
        Refused: no such label, or replace is no truth value.
    """
    raw, replace = body.get("label"), body.get("replace", False)
    kinds = ", ".join(kind.value for kind in LabelKind)
    if not isinstance(raw, str) or raw not in list(LabelKind):
        raise Refused(400, f"label: expected one of {kinds}")
    if not isinstance(replace, bool):
        raise Refused(400, "replace: expected true or false")
    return Said(LabelKind(raw), note, by, replace)
