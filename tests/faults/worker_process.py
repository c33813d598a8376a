"""Inspection workers for the fault line: real processes, forked from one that has imported everything.

    python -m tests.faults.worker_process

It reads orders, a JSON object a line, from standard input, and tells what became of them on standard output.
A worker started so is there after a tenth of a second; started anew it would spend seconds on imports, and a
machine with two cores would measure nothing else. When standard input ends, every worker is killed.

A worker kills itself, at a numbered step of its loop, once it is told to: SIGUSR1 makes it read the step's
name from its ``.arm`` file. This lives here, in the tests: the product has no such switch.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from inference.calibration import Limits
from inference.inspection import Inspection
from inference.sample import Sample
from schemas.errors import CrosscheckError
from schemas.verdict import Mode
from tests.faults.shots import Stamp, stamp_of
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.inspection import InspectionWorker
from workers.logs import configure_logs
from workers.model_folder import ModelFolder
from workers.models import Models
from workers.settings import Settings
from workers.steps.step import Step

COST_S = 0.002
"""What the stand-in takes for one frame."""
TOPICS = ("frames", "verdicts", "heatmaps", "deadletter")
STAND_IN_HASH = sha256(b"stand-in").hexdigest()
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class StandIn:
    """A model of fixed cost that does what the stamp of a frame says.

    Attributes:
        slow_s: how long a frame stamped SLOW takes, seconds.
    """

    slow_s: float = 0.0
    bundle_id: str = "stand-in/1"
    bundle_hash: str = STAND_IN_HASH
    limits: Mapping[Mode, Limits] = field(default_factory=dict)

    def of(self, product: str) -> StandIn:
        """This one, for every product."""
        return self

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        """One inspection a sample; a frame without a known stamp fails."""
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Inspection:
        time.sleep(COST_S)
        if sample.rgb is None:
            return _evidence(0.1, Mode.DEPTH)
        stamp = stamp_of(sample.rgb)
        if stamp is None:
            raise ValueError("a frame without a stamp")
        if stamp is Stamp.LETHAL:
            os.kill(os.getpid(), signal.SIGKILL)
        if stamp is Stamp.SLOW:
            time.sleep(self.slow_s)
        return _evidence(3.0 if stamp is Stamp.BAD else 0.1, Mode.RGB if sample.depth is None else Mode.FUSED)


def _evidence(score: float, mode: Mode) -> Inspection:
    return Inspection(
        mode=mode,
        score=score,
        threshold=1.0,
        pass_limit=1.0,
        coverage=1.0,
        branches={"stand-in": score},
        regions=(),
        heatmap=None,
        degraded=(),
        degraded_pass=mode is Mode.FUSED,
        error=None,
        timings={},
    )


@dataclass(slots=True)
class Trap:
    """Kills this process at the step it was armed for."""

    arm: Path
    step: str = ""

    def armed(self, number: int, frame: object) -> None:
        """SIGUSR1: read which step it is to be."""
        with contextlib.suppress(OSError):
            self.step = self.arm.read_text().strip()

    def __call__(self, step: Step) -> None:
        if self.step == step.value:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is started with.

    Attributes:
        settings: fields of ``Settings``.
        slow_s: see ``StandIn``; None for the real model of the settings.
        poll_interval_s: how long it may take between two polls before its group gives it up.
    """

    name: str
    folder: str
    settings: dict[str, Any]
    slow_s: float | None = None
    poll_interval_s: float = 60.0

    @property
    def log(self) -> Path:
        """Where the worker writes its events."""
        return Path(self.folder) / f"{self.name}.log"

    @property
    def arm(self) -> Path:
        """Where it finds the step at which it is to die."""
        return Path(self.folder) / f"{self.name}.arm"


def work(order: Order) -> int:
    """One worker, from its start to its end; returns its exit code."""
    trap = Trap(order.arm)
    signal.signal(signal.SIGUSR1, trap.armed)
    torch.set_num_threads(1)
    configure_logs("json")
    try:
        settings = Settings(worker=order.name, log="json", **order.settings)
        models: Models
        models = StandIn(order.slow_s) if order.slow_s is not None else ModelFolder(settings.models)
        store = open_store(settings)
        bus = open_bus(settings, *TOPICS)
        # Not a setting of the product: the test shortens it, so as not to wait for a minute.
        setattr(bus, "consumer", partial(bus.consumer, max_poll_interval=order.poll_interval_s))  # noqa: B010
        try:
            worker = InspectionWorker(settings, bus, store, models, on_step=trap)
            with console.stop_on_signal() as stop:
                worker.run(stop)
        finally:
            bus.close()
    except CrosscheckError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return console.NO_SERVICE
    return console.OK


def _become(order: Order, parent: int) -> None:
    """In the child: let go of what belongs to the parent, work, end."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        said = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for at, there in ((0, nothing), (1, said), (2, said)):
            os.dup2(there, at)
        os.close(nothing)
        os.close(said)
        sys.stdin = open(0)  # noqa: SIM115
        code = work(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # Not exit(): what the parent had registered to be done at its end is not the child's to do.
        os._exit(code)


@dataclass(slots=True)
class _Nursery:
    living: dict[int, str] = field(default_factory=dict)

    def tell(self, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"at": time.time_ns(), **facts}) + "\n")
        sys.stdout.flush()

    def start(self, order: Order) -> None:
        here = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(order, here)
        self.living[pid] = order.name
        self.tell(event="started", name=order.name, pid=pid)

    def reap(self) -> None:
        while self.living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self.tell(event="ended", name=self.living.pop(pid), pid=pid, code=code)

    def kill(self) -> None:
        for pid in self.living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.living:
            os.waitpid(pid, 0)


def main() -> None:
    """Serve orders until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    nursery = _Nursery()
    nursery.tell(event="ready", name="", pid=os.getpid())
    rest = b""
    try:
        while True:
            ready, _, _ = select.select([0], [], [], 0.02)
            if ready:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    nursery.start(Order(**json.loads(line)))
            nursery.reap()
    finally:
        nursery.kill()


if __name__ == "__main__":
    main()
