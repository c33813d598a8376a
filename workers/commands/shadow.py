"""``crosscheck shadow``: a candidate bundle beside the one that judges."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog
import torch
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inference.profiles.runtime import Runtime
from workers.bus.base import largest_message
from workers.clock import Clock, SystemClock
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.logs import configure_logs
from workers.pulse import Pulse
from workers.registry import open_registry
from workers.serving.loading import ready
from workers.settings import Settings
from workers.shadow.report import QUANTILES, ShadowReport
from workers.shadow.run import Shadow, ShadowSettings
from workers.telemetry.assembly import Assembly

log = structlog.get_logger(__name__)

SAY_S = 10.0
"""Seconds between two lines where nobody watches a terminal."""
_NICE = 10
_STILL_S = 120.0
"""A turn judges every part whose verdict has come, and gives way to the worker."""


def run_shadow(
    settings: Settings,
    product: str,
    version: str,
    *,
    count: int | None = None,
    wait_s: float = 10.0,
    json_file: Path | None = None,
) -> None:
    """Compare until ``count`` parts were, or until SIGINT or SIGTERM; then print the table.

    Raises:
        SettingsError, BundleError: there is no such bundle, or it is refused.
        ServiceError: Kafka or Redis is away at the start.
    """
    configure_logs(settings.log)
    torch.set_num_threads(1)
    with suppress(OSError):
        os.nice(_NICE)  # on a worker's machine it gives way to the worker
    runtime = Runtime(dino=settings.dino, point_mae=settings.point_mae, colour=settings.colour_runtime)
    bundle = open_registry(settings.models, settings.model_store).fetch(product, version)
    model = ready(bundle, device=settings.device, runtime=runtime)
    asked = ShadowSettings(
        product=product,
        topic=settings.topic("frames"),
        wait_s=wait_s,
        pair_wait_s=settings.pair_wait_ms / 1e3,
        min_coverage=settings.min_coverage,
        max_record=largest_message(settings.largest_record),
        most=count,
    )
    clock = SystemClock()
    with ExitStack() as stack:
        watch = Assembly("shadow", settings.metrics)
        stack.enter_context(watch.served())
        store = open_store(settings)
        bus = open_bus(settings, "frames")
        stack.callback(bus.close)
        shadow = Shadow(bus, store, model, asked, clock=clock)
        stop = stack.enter_context(console.stop_on_signal())
        pulse = Pulse(_STILL_S)
        watch.live("loop", pulse.trouble)
        watch.service(store.contact)
        watch.service(bus.contact)
        watch.stopping(stop)
        log.info("shadow.started", candidate=model.bundle_id, topic=asked.topic)
        try:
            with _Saying(clock) as saying:
                while not stop.is_set() and not shadow.done:
                    pulse.turned()
                    shadow.step()
                    saying.say(shadow)
        finally:
            shadow.close()
    report = shadow.tally.report(clock.now() // 1_000_000, running=False)
    times = tuple(shadow.tally.latency(share) for share in (0.5, 0.95, 0.99))
    console.out.print(table(report, times))
    console.write_json(json_file, report.to_map() | {"latency_p50_p95_p99_ms": list(times)})


class _Saying:
    """One live line on a terminal, a line of the log now and then elsewhere."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._live = Live(console=console.err, refresh_per_second=4) if sys.stderr.isatty() else None
        self._next = 0.0

    def __enter__(self) -> _Saying:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, shadow: Shadow) -> None:
        tally = shadow.tally
        if self._live is not None:
            self._live.update(Text(line(tally.report(0, running=True))))
        elif self._clock.monotonic() >= self._next:
            self._next = self._clock.monotonic() + SAY_S
            log.info("shadow.so_far", said=line(tally.report(0, running=True)))


def line(report: ShadowReport) -> str:
    """A run in one line."""
    share = f" ({100 * report.agree / report.count:.1f} %)" if report.count else ""
    words = [
        f"{report.candidate} beside {report.active or 'the line'}: {report.count} compared",
        f"{report.agree} agree{share}",
        f"PASS -> not passed {report.active_pass_candidate_reject}",
        f"not passed -> PASS {report.active_reject_candidate_pass}",
    ]
    extra = {
        "failed": report.failed,
        "unmatched": report.unmatched,
        "unscored": report.unscored,
        "skipped": report.skipped,
    }
    return ", ".join(words + [f"{number} {name}" for name, number in extra.items() if number])


def table(report: ShadowReport, times: tuple[float | None, ...]) -> Table:
    """A run as a table."""
    out = Table(title=f"{report.candidate} beside {report.active or 'the line'}", title_justify="left")
    out.add_column("")
    out.add_column("parts", justify="right")
    out.add_column("share", justify="right")

    def row(name: str, number: int, *, of: int | None = None) -> None:
        share = f"{100 * number / of:.2f} %" if of else ""
        out.add_row(name, str(number), share)

    row("compared", report.count)
    row("both do the same", report.agree, of=report.count)
    row("passed now, not by the candidate", report.active_pass_candidate_reject, of=report.count)
    row("not passed now, but by the candidate", report.active_reject_candidate_pass, of=report.count)
    row("REJECT now, REVIEW by the candidate", report.active_reject_candidate_review, of=report.count)
    row("REVIEW now, REJECT by the candidate", report.active_review_candidate_reject, of=report.count)
    out.add_section()
    row("the candidate failed", report.failed)
    row("no verdict in time", report.unmatched)
    row("a verdict without a score", report.unscored)
    row("records skipped to keep up", report.skipped)
    if report.active_ratios:
        out.add_section()
        out.add_row("score / reject limit", "active", "candidate")
        pairs = zip(QUANTILES, report.active_ratios, report.candidate_ratios, strict=True)
        for share, active, candidate in pairs:
            out.add_row(f"  {100 * share:.0f} % of parts up to", f"{active:.3f}", f"{candidate:.3f}")
    if times[0] is not None:
        out.add_section()
        middle, _, late = (console.number(one, 1) for one in times)
        out.add_row("candidate, ms a part: p50, p99", middle, late)
    return out
