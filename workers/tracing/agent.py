"""The first span of a part: from its trigger to the broker's acknowledgement, as the agent's log has it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from schemas.part import PartKey
from workers.bus.base import Bus
from workers.capture.log import DROPPED, FAILED, SENT, TOLD, TRIGGER
from workers.settings import Settings
from workers.tracing.assembly import Tracing
from workers.tracing.context import CAPTURE, trace_id
from workers.tracing.span import Span, Value

_REMEMBERED = 4096
_BAD = (FAILED, DROPPED)


class AgentTrace:
    """A listener of the agent's log (``AgentLog.listener``). Threads may share it."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._recorder = tracing.recorder
        self._sampler = tracing.sampler
        self._triggered: OrderedDict[str, int] = OrderedDict()

    def marked(self, bus: Bus, settings: Settings) -> Bus:
        """The bus, with the context of this span on frames and notices."""
        return self._tracing.marked(bus, settings.topic("frames"), span=CAPTURE)

    def __call__(self, line: Mapping[str, Any]) -> None:
        """A line was written."""
        text = line.get("part")
        if text is None or not self._sampler(trace_id(text.encode())):
            return
        event, at = line["event"], line["at"]
        if event == TRIGGER:
            self._triggered[text] = at
            while len(self._triggered) > _REMEMBERED:
                self._triggered.popitem(last=False)
        elif event in (SENT, TOLD, *_BAD):
            # A notice that follows a frame given up is the end of the same span; the trace keeps the first.
            self._recorder.tell(partial(spans, dict(line), self._triggered.pop(text, at)))


def spans(line: Mapping[str, Any], triggered: int) -> Iterator[Span]:
    """The span that this line ends."""
    attributes: dict[str, Value] = {"crosscheck.agent.event": line["event"]}
    if "sensors" in line:
        attributes["crosscheck.sensors"] = line["sensors"]
    yield Span(
        part=PartKey.parse(line["part"]),
        name=CAPTURE,
        start=triggered,
        end=line["at"],
        attributes=attributes,
        error=str(line.get("why", "given up")) if line["event"] in _BAD else "",
    )
