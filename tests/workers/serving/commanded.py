"""A line in memory whose worker follows the control topic; stand-in bundles score by their name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.calibration import Limits, limits_of
from inference.errors import BundleError
from inference.inspection import Inspection
from inference.sample import Sample
from schemas.command import Action, Command
from schemas.verdict import Mode
from schemas.wire import encode
from tests.workers.line import Line
from tests.workers.standin import inspection
from workers.bus.base import TopicSpec
from workers.inspection import InspectionWorker
from workers.registry import Registry
from workers.registry.entry import digest_of
from workers.serving.activation import Activations
from workers.steps.control import Control, ControlListener

CONTROL = "inspection.control"


def put_bundle(models: Path, name: str, **manifest: Any) -> str:
    """A folder PRODUCT/VERSION with a manifest, which is all that a stand-in needs; returns its digest."""
    folder = models / name
    folder.mkdir(parents=True)
    raw = json.dumps({"name": name, **manifest}).encode()
    (folder / "manifest.json").write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def score_of(bundle: str) -> float:
    """What a stand-in says of every part: its own, by its name."""
    return int.from_bytes(hashlib.sha256(bundle.encode()).digest()[:4], "big") / 2**32


TAUGHT = replace(
    limits_of([0.1, 0.2, 0.3, 0.4], list("abcd"), false_reject=0.01, review_share=0.04), rejects=1.0
)
"""Of every bundle here: passes up to 0.4, the highest score that was seen, and rejects above 1.0."""


class VersionModel:
    """Judges every part by the name of its bundle."""

    def __init__(self, path: Path, during: Callable[[], None] = lambda: None) -> None:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest.get("broken"):
            raise BundleError(f"{path}: damaged")
        self.bundle_id = f"{path.parent.name}/{path.name}"
        self.bundle_hash = digest_of(path)
        self.during = during
        self.limits: Mapping[Mode, Limits] = {Mode.FUSED: TAUGHT}

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        """One inspection a sample; ``during`` runs between the first and the others."""
        found = []
        for _ in batch:
            found.append(inspection(score_of(self.bundle_id)))
            self.during()
        return found


class AtOnce(Executor):
    """Runs what it is given where it is given."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class ByHand(Executor):
    """Keeps what it is given until the test says that it runs."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(call(*args, **kwargs))
            except Exception as error:
                done.set_exception(error)

        self.waiting.append(run)
        return done

    def run(self) -> None:
        """Run the oldest that waits."""
        self.waiting.pop(0)()


class CommandedLine(Line):
    """A line with a control topic and a models folder."""

    def __init__(self, models: Path, *, partitions: int = 2) -> None:
        super().__init__(partitions=partitions)
        self.models = models
        self.bus.ensure_topics({CONTROL: TopicSpec(partitions=1, compacted=True)})
        self._commands = 0

    def tell(self, action: Action, **fields: Any) -> Command:
        """Put a command on the control topic."""
        self._commands += 1
        command = Command(
            id=f"c{self._commands}", action=action, issued_at=fields.pop("at", self.clock.now()), **fields
        )
        self.producer.send(CONTROL, encode(command), key=command.key, partition=0).wait(1)
        return command

    def activate(self, bundle: str, **fields: Any) -> Command:
        """Ask for a bundle PRODUCT/VERSION."""
        product, _, version = bundle.partition("/")
        return self.tell(Action.ACTIVATE, product=product, value=version, **fields)

    def commanded(
        self,
        *,
        name: str = "w1",
        executor: Executor | None = None,
        during: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> InspectionWorker:
        """A worker that has read the control topic and follows it."""
        activations = Activations(
            Registry(self.models),
            lambda path: VersionModel(path, during),
            clock=self.clock,
            executor=executor or AtOnce(),
            scout=AtOnce(),
        )
        control = Control(name, ControlListener(self.bus, CONTROL, self.clock), activations)
        control.begin()
        return self.worker(activations.models, name=name, control=control, **settings)

    def beat(self, worker: str = "w1") -> dict[str, str]:
        """The last heartbeat of a worker."""
        return self.store.worker(worker)
