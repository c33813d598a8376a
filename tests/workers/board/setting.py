"""A board over a line in memory: nothing runs on threads of its own, each look is a call."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.testclient import TestClient

from schemas.frame import Frame
from schemas.part import PartKey
from tests.workers.frames import frame
from tests.workers.line import Line
from tests.workers.standin import StandInModel, inspection
from workers.board.server import BoardServer
from workers.board.sinks import Sink
from workers.bus.base import TopicSpec
from workers.inspection import InspectionWorker
from workers.settings import Settings

TOKEN = "a-token-of-the-tests"
LABELS = "inspection.labels"


def bad(score: float = 5.0) -> StandInModel:
    """A model that rejects all it sees."""
    return StandInModel(lambda sample: inspection(score))


class BoardLine(Line):
    """A line in memory with a board beside it, and a browser.

    Time is ``clock``'s; ``server`` is the Redis, and one whose ``connected`` is false is away.
    """

    def __init__(self, folder: Path, *, token: str | None = TOKEN, **settings: Any) -> None:
        super().__init__()
        self.bus.ensure_topics({LABELS: TopicSpec(partitions=1)})
        self.settings = Settings(
            board="127.0.0.1:0", board_token=token, review=folder / "review", log="json", **settings
        )
        self.board = BoardServer(self.settings, Sink.of(self.bus), Sink.of(self.store), clock=self.clock)
        self.browser = TestClient(self.board.board.app(), raise_server_exceptions=False)
        self._inspector: InspectionWorker | None = None

    def inspected(self, *frames: Frame, model: StandInModel | None = None) -> list[PartKey]:
        """The parts of these frames, answered by a worker."""
        if self._inspector is None or model is not None:
            if self._inspector is not None:
                self._inspector.close()
            self._inspector = self.worker(model or bad(), heatmaps="all")
        inspector = self._inspector
        before = len(self.verdicts())
        for each in frames:
            self.send(each)
        self.turn(inspector, lambda: len(self.verdicts()) >= before + len(frames))
        return [each.part for each in frames]

    def rejected(self, *triggers: int, station: str = "s1", **more: Any) -> list[PartKey]:
        """So many parts, rejected by a worker and read by the board."""
        frames = [
            frame(trigger, station=station, captured_at=self.clock.now(), **more) for trigger in triggers
        ]
        parts = self.inspected(*frames)
        self.read_all()
        return parts

    def read_all(self) -> None:
        """Let the board read all there is."""
        for tail in self.board.tails:
            while tail.read(0.0):
                pass
            tail.failure = None
        self.board.watch.look()

    def sign_in(self, **more: Any) -> None:
        """As a person does."""
        answer = self.browser.post("/api/login", json={"token": TOKEN, **more})
        assert answer.status_code == 200, answer.text

    def say(self, part: PartKey, label: str, **more: Any) -> Any:
        """Label a part; the answer."""
        return self.browser.post(f"/api/review/{part}", json={"label": label, **more})

    def state(self) -> dict[str, Any]:
        """What /api/state says now."""
        self.clock.advance(1.0)
        found: dict[str, Any] = self.browser.get("/api/state").json()
        return found

    def station(self, name: str = "s1") -> dict[str, Any]:
        """One station of it."""
        return next(each for each in self.state()["stations"] if each["name"] == name)

    def close(self) -> None:
        """End it all."""
        if self._inspector is not None:
            self._inspector.close()
        self.browser.close()
        self.board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
