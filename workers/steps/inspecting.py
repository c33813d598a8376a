"""Step 5: the model on one batch, so that a bad part takes no neighbour with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.errors import CrosscheckError
from schemas.verdict import Decision
from workers.clock import Clock
from workers.errors import WorkerError
from workers.models import Model, Models
from workers.serving.thresholds import Thresholds
from workers.stages import DECODE, INSPECT, StageTimes
from workers.steps.deciding import Judge
from workers.steps.decode import decode_sample
from workers.steps.looking import Look, look
from workers.steps.pending import PendingPart
from workers.steps.publishing import Outcome
from workers.steps.silhouettes import Silhouettes

HeatmapPolicy = Callable[[Decision], bool]
"""Whether a decision's heatmap is kept."""


def heatmap_policy(keep: str) -> HeatmapPolicy:
    """By the setting: ``all``, ``not-passed`` or ``none``."""
    return lambda decision: keep == "all" or (keep == "not-passed" and decision is not Decision.PASS)


Refusal = Callable[[str], CrosscheckError | None]
"""Why the parts of a station are not shown to the model, or None."""


def not_parked(station: str) -> None:
    """No station is."""


class ModelFailure(WorkerError):
    """The model raised on this one part, alone."""

    reason = "model"


@dataclass(slots=True)
class BatchInspector:
    """Decodes, scores and judges batches."""

    models: Models
    judge: Judge
    clock: Clock
    stages: StageTimes
    decoders: Executor
    keep_heatmap: HeatmapPolicy
    silhouettes: Silhouettes
    thresholds: Thresholds = field(default_factory=Thresholds)
    parked: Refusal = not_parked

    def inspect(self, batch: Sequence[PendingPart], attempts: Sequence[int]) -> list[Outcome]:
        """One outcome a part, in order. Never raises for a bad part."""
        outcomes: dict[int, Outcome] = {}
        samples = self._decode(batch, outcomes)
        by_product: dict[str, list[int]] = {}
        for index, pending in enumerate(batch):
            if index not in outcomes:
                by_product.setdefault(pending.frame.product, []).append(index)
        for product, indices in by_product.items():
            try:
                model = self.models.of(product)
            except WorkerError as error:
                for index in indices:
                    verdict = self.judge.failed(batch[index], error, attempt=attempts[index])
                    outcomes[index] = Outcome.of(batch[index], verdict)
                continue
            with self.stages.stage(INSPECT):
                started = self.clock.monotonic()
                inspections = self._run(
                    model, [self._with_silhouette(batch[i], samples[i], model) for i in indices]
                )
                share = (self.clock.monotonic() - started) * 1e3 / len(indices)
            for index, inspection in zip(indices, inspections, strict=True):
                # The last moment before the judge: what was measured stays, what it is compared with may not.
                inspection = self.thresholds.applied(inspection, model)
                seen = look(batch[index], samples[index], model, inspection)
                outcomes[index] = self._inspected(
                    batch[index], inspection, seen, model, attempts[index], started, share
                )
        return [outcomes[index] for index in range(len(batch))]

    def _decode(self, batch: Sequence[PendingPart], outcomes: dict[int, Outcome]) -> dict[int, Sample]:
        def decode(pending: PendingPart) -> Sample | CrosscheckError:
            try:
                return decode_sample(pending.frame, use_rgb=pending.use_rgb, use_depth=pending.use_depth)
            except CrosscheckError as error:
                return error

        samples: dict[int, Sample] = {}
        with self.stages.stage(DECODE):
            for index, result in enumerate(self.decoders.map(decode, batch)):
                if isinstance(result, Sample):
                    refused = self.parked(batch[index].part.station)
                    if refused is None:
                        samples[index] = result
                    else:
                        # Decoded all the same: that it can be is what ends the parking.
                        outcomes[index] = Outcome.of(batch[index], self.judge.failed(batch[index], refused))
                else:
                    pending = batch[index]
                    outcomes[index] = Outcome.of(
                        pending,
                        self.judge.failed(pending, result),
                        dead=tuple((record, result) for record in pending.records),
                    )
        return samples

    def _run(self, model: Model, samples: list[Sample]) -> list[Inspection]:
        # A batch that fails is split until the bad part is alone; its neighbours are scored without it.
        try:
            return model.inspect(samples)
        except Exception as error:
            if len(samples) == 1:
                failure = ModelFailure(f"{type(error).__name__}: {error}")
                return [Inspection.failed(failure)]
            middle = len(samples) // 2
            return self._run(model, samples[:middle]) + self._run(model, samples[middle:])

    def _with_silhouette(self, pending: PendingPart, sample: Sample, model: Model) -> Sample:
        frame = pending.frame
        return self.silhouettes.lend(frame.part.station, frame.product, model.bundle_hash, sample)

    def _inspected(
        self,
        pending: PendingPart,
        inspection: Inspection,
        seen: Look,
        model: Model,
        attempt: int,
        started: float,
        share_ms: float,
    ) -> Outcome:
        for name, value in inspection.timings.items():
            self.stages.add(f"{INSPECT}.{name}", value / 1e3)
        timings = {
            "queue": max(0.0, (pending.read_at - pending.frame.captured_at) / 1e6),
            "wait": max(0.0, (started - pending.arrived) * 1e3),
            "inspect": share_ms,
            **{f"inspect.{name}": float(value) for name, value in inspection.timings.items()},
        }
        verdict = self.judge.inspected(
            pending,
            inspection,
            bundle=model.bundle_id,
            bundle_hash=model.bundle_hash,
            attempt=attempt,
            timings=timings,
        )
        self.silhouettes.learn(
            pending.part.station, pending.frame.product, model.bundle_hash, inspection, verdict.decision
        )
        keep = self.keep_heatmap(verdict.decision)
        return Outcome.of(pending, verdict, heatmap=inspection.heatmap if keep else None, look=seen)
