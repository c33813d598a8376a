"""The chain of a journal: its lines are numbered, and each names the digest of the line before it.

A line that was taken away, changed, doubled or put elsewhere breaks the chain at its place. The number and
the digest of the last line stand in ``JOURNAL.lock`` as well, so that a tail that was cut off is missed too.
There is no key in it: it shows what befell a journal, and is no seal against whoever writes all of it anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import crc32c

from workers.gate.lines import TAG, Entry, Head, Item, Line, Mark, Tip

_WIDTH = 96


def pack_mark(tip: Tip) -> bytes:
    """The number and digest of the last line on disk, as ``JOURNAL.lock`` holds them: always as long."""
    text = json.dumps({"n": tip.n, "digest": tip.digest}, separators=(",", ":")).encode("ascii")
    return (text + TAG + b"%08x" % crc32c.crc32c(text)).ljust(_WIDTH - 1) + b"\n"


def unpack_mark(data: bytes) -> Tip | None:
    """What ``pack_mark`` wrote, or None."""
    text, tag, check = data[:_WIDTH].rstrip().rpartition(TAG)
    if not tag or check != b"%08x" % crc32c.crc32c(text):
        return None
    try:
        raw = json.loads(text)
        return Tip(int(raw["n"]), str(raw["digest"]))
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Break:
    """A place at which the chain does not hold.

    Attributes:
        where: FILE:LINE.
        after, before: when the decisions around it were made, nanoseconds since the epoch; None: none was.
    """

    where: str
    says: str
    after: int | None = None
    before: int | None = None

    def touches(self, since: int, until: int) -> bool:
        """Whether it may hide a decision made in [since, until]."""
        return (self.before is None or self.before >= since) and (self.after is None or self.after <= until)


class Chain:
    """Follows lines from the first to the last, over all segments.

    Args:
        mark: the last line that the journal's lock file knows of.

    Attributes:
        tip: the last line.
        breaks: where it does not hold, in order.
        first: the number of the first line that has one; None while there is none.
        unchained: lines of a journal that was written before there was a chain.
    """

    def __init__(self, mark: Tip | None = None) -> None:
        self._mark = mark
        self._lines = 0
        self._segments = 0
        self._damaged = 0
        self._open = 0
        self._time: int | None = None
        self._last = ""
        self.tip = Tip()
        self.breaks: list[Break] = []
        self.first: int | None = None
        self.unchained = 0

    def segment(self) -> None:
        """The next file begins; it may hold no line."""
        self._segments += 1

    def add(self, line: Line, where: str) -> None:
        """The next line, and its place as FILE:LINE."""
        self._last = where
        link = line.link
        if line.item is None:
            # It is told as damaged. What it was is not known: nor whether it was a line at all.
            self._damaged += 1
            self.tip = Tip(self.tip.n, line.digest)
        elif link is None:
            self._without_number(line, where)
        else:
            self._linked(line, link, where)
        self._clock(line.item)
        self._lines += 1

    def _without_number(self, line: Line, where: str) -> None:
        if self.first is None:
            self.unchained += 1
        else:
            self._break(where, "a line without a number: not written by the gate that wrote those before it")
        self.tip = Tip(self.tip.n + 1, line.digest)

    def _linked(self, line: Line, link: Tip, where: str) -> None:
        before, expected = self.tip, self.tip.n + 1
        begins = self.first is None
        if begins:
            self.first = link.n
        damaged, self._damaged = self._damaged, 0
        if begins and not self._lines and self._segments < 2 and isinstance(line.item, Head):
            pass  # what came before it is not here: its checkpoint tells of it
        elif begins and (self.unchained or damaged):
            if not damaged and link.digest != before.digest:
                self._break(where, "it was written behind another line than the one before it here")
        elif damaged and expected <= link.n <= expected + damaged:
            pass
        elif link.n > expected:
            self._break(where, f"{_gone(expected, link.n - 1)} missing before it")
        elif link.n < expected:
            self._break(where, f"line {link.n} once more, or out of its place: line {expected} was to follow")
            if not damaged:
                return
        elif link.digest != before.digest:
            self._break(where, f"line {before.n} before it was changed after line {link.n} had been written")
        mark = self._mark
        if mark is not None and mark.n == link.n and mark.digest != line.digest:
            self._break(where, f"line {link.n} was changed: the lock file of the journal knows another one")
        self.tip = Tip(max(link.n, self.tip.n), line.digest)

    @property
    def known(self) -> Tip | None:
        """The last line by the lock file, where that knows of more lines than there are."""
        return self._mark if self._mark is not None and self._mark.n > self.tip.n else None

    def end(self) -> None:
        """There are no more lines."""
        mark, n = self._mark, self.tip.n
        if mark is None or (self.first is None and self.unchained):
            return
        if mark.n > n + self._damaged:
            self._break(self._last or "the journal", f"{_gone(n + 1, mark.n)} missing at the end")

    def _break(self, where: str, says: str) -> None:
        self.breaks.append(Break(where, says, after=self._time))

    def _clock(self, item: Item | None) -> None:
        at = item.decided_at if isinstance(item, Entry) else item.at if isinstance(item, Mark) else None
        if at is None:
            return
        # All breaks since the last time lie before this one.
        for place in range(self._open, len(self.breaks)):
            self.breaks[place] = replace(self.breaks[place], before=at)
        self._open = len(self.breaks)
        self._time = at


def follow(lines: Iterator[Line], name: str, chain: Chain) -> Iterator[tuple[str, Item | None]]:
    """The items of a segment with their places, each added to the chain."""
    chain.segment()
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        chain.add(line, where)
        yield where, line.item


def _gone(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"
