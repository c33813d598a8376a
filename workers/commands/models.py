"""``crosscheck models``: which bundles there are, which of them judges, and how another one takes over."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from rich.table import Table

from inference.bundle import Bundle
from inference.calibration import Limits
from schemas.command import Command, ThresholdSetting
from schemas.verdict import Mode
from workers.bus.base import Bus
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.errors import ServiceError, SettingsError
from workers.logs import configure_logs
from workers.registry import Entry, Registry, open_registry
from workers.serving import desk
from workers.serving.served import short_name
from workers.settings import Settings
from workers.store.verdicts import VerdictStore

_ASK_S = 0.2
_BEATS = 2
"""New heartbeats after which a worker that still refuses is believed: the first may be from before."""


def list_models(settings: Settings, *, json_file: Path | None) -> int:
    """Print every bundle, what holds of it, and which workers judge by it."""
    configure_logs(settings.log)
    registry = open_registry(settings.models, settings.model_store)
    entries = registry.entries(digests=True)
    missing: list[ServiceError] = []
    holds = desk.InService(activated={}, thresholds={})
    says: list[desk.Says] = []
    idle = "which workers run is not known"
    try:
        holds = _holds(settings)
    except ServiceError as error:
        missing.append(error)
    try:
        says = desk.workers_say(open_store(settings), settings.topic_prefix)
        idle = "no worker runs"
    except ServiceError as error:
        missing.append(error)
    rows = [_row(entry, entries, holds, says, known=not missing) for entry in entries]
    _print(rows, holds, says, idle)
    for away in missing:
        console.err.print(f"not known: {away}", soft_wrap=True)
    console.write_json(
        json_file,
        {
            "bundles": rows,
            "thresholds": [_setting(product, one) for (product, _), one in holds.thresholds.items()],
            "workers": [
                {"name": one.worker, "bundles": one.bundles, "refused": dict(one.refused)} for one in says
            ],
        },
    )
    return console.NO_SERVICE if missing else console.OK


def activate(settings: Settings, product: str, version: str, *, wait_s: float, check: bool = True) -> int:
    """Have the workers judge a product by a version of its bundle, and wait until they do."""
    configure_logs(settings.log)
    bundle = _checked(settings, product, version) if check else None
    with _Line(settings) as line:
        before = desk.in_service(line.bus, line.topic).activated.get(product)
        active = None if before is not None else _judging(line.store, settings, product)
        digest = None if bundle is None else bundle.digest
        command = desk.activation(product, version, digest, before, active)
        return line.activate(command, wait_s)


def roll_back(settings: Settings, product: str, *, wait_s: float) -> int:
    """Have the workers judge a product by the bundle that was active before."""
    configure_logs(settings.log)
    with _Line(settings) as line:
        before = desk.in_service(line.bus, line.topic).activated.get(product)
        version, rest = desk.rollback(product, before)
        digest = _checked(settings, product, version).digest
        return line.activate(desk.rolled_back(product, version, rest, digest), wait_s)


def set_threshold(
    settings: Settings, product: str, mode: str, value: str, version: str | None, pass_limit: float | None
) -> int:
    """Set the limits of one mode for one version of a product's bundle, or take them back."""
    configure_logs(settings.log)
    try:
        chosen = Mode(mode.upper())
        number = None if value == "taught" else float(value)
    except ValueError:
        raise SettingsError(
            f"threshold {mode} {value}: expected {', '.join(Mode)} and a number, or 'taught'"
        ) from None
    if number is not None and not math.isfinite(number):
        raise SettingsError(f"threshold {value}: expected a finite number")
    if pass_limit is not None and (number is None or not pass_limit <= number):
        raise SettingsError(
            f"--pass {pass_limit:g}: expected a number not above the threshold, {value}: parts between"
            " the two go to REVIEW"
        )
    with _Line(settings) as line:
        holds = desk.in_service(line.bus, line.topic)
        before = holds.activated.get(product)
        at = version or (before.value if before else _judging(line.store, settings, product))
        if at is None:
            raise SettingsError(
                f"product {product!r}: nobody knows which version judges; name it with --version"
            )
        taught = _taught(_checked(settings, product, at), chosen)
        stands = holds.thresholds.get((product, chosen))
        other = None if stands is None or stands.version == at else stands
        if number is None and other is not None:
            # There is one setting a mode: to take back what is not set would take back the other version's.
            raise SettingsError(
                f"{product}/{at} {chosen.value}: no threshold is set for this version, only {other.number:g}"
                f" for version {other.version}; name that one with --version"
            )
        setting = ThresholdSetting(mode=chosen, number=number, version=at, pass_limit=pass_limit)
        command = desk.threshold(product, setting)
        desk.send(line.bus, line.topic, command)
    was = f"the bundle was taught to {_said(taught.passes, taught.rejects)}"
    if number is None:
        console.out.print(f"{product}/{at} {chosen.value}: the taught limits count again; {was}")
        return console.OK
    passes = number if pass_limit is None else pass_limit
    console.out.print(
        f"{product}/{at} {chosen.value}: {_said(passes, number)} from the next batch on; {was}. It holds for"
        f" version {at} only, and each verdict shows it."
    )
    if other is not None:
        console.out.print(
            f"It takes the place of {other.number:g} for version {other.version}, whose taught limits"
            " count again."
        )
    if passes > taught.passes:
        console.out.print(
            "More passes than taught: fewer parts held, more misses. `crosscheck evaluate` says how many were"
            " missed at the taught limits."
        )
    return console.OK


def push(settings: Settings, product: str, version: str) -> int:
    """Put a bundle of the models folder into the store."""
    configure_logs(settings.log)
    registry = open_registry(settings.models, settings.model_store)
    if registry.store is None:
        raise SettingsError("there is no store to push to: set CROSSCHECK_MODEL_STORE=s3://BUCKET/PREFIX")
    bundle = Registry(settings.models).check(product, version)
    registry.store.upload(bundle.path, product, version)
    name = short_name(f"{product}/{version}", bundle.digest)
    console.out.print(f"{name} is in {registry.store.where}", soft_wrap=True)
    return console.OK


class _Line:
    """Kafka and Redis of a line, for one command."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.topic("control")
        self.name = settings.topic_prefix
        self.store: VerdictStore = open_store(settings)
        self.bus: Bus = open_bus(settings, "control")

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *ended: object) -> None:
        self.bus.close()

    def activate(self, command: Command, wait_s: float) -> int:
        """Send an ACTIVATE and say what became of it at each worker."""
        name = f"{command.product}/{command.value}"
        seen = {one.worker: one.at for one in desk.workers_say(self.store, self.name)}
        desk.send(self.bus, self.topic, command)
        back = f"; a rollback goes back to {command.previous[0]}" if command.previous else ""
        console.out.print(f"{name} is to judge {command.product} from now on{back}", soft_wrap=True)
        if wait_s <= 0:
            return console.OK
        return self._wait(name if command.digest is None else short_name(name, command.digest), seen, wait_s)

    def _wait(self, bundle: str, seen: Mapping[str, int], wait_s: float) -> int:
        name = bundle.partition("@")[0]
        began = time.monotonic()
        last, beats, told = dict(seen), dict.fromkeys(seen, 0), set[str]()
        while True:
            says = desk.workers_say(self.store, self.name)
            for one in says:
                if one.at != last.get(one.worker):
                    last[one.worker] = one.at
                    beats[one.worker] = beats.get(one.worker, 0) + 1
                if one.serves(bundle) and one.worker not in told:
                    told.add(one.worker)
                    after = time.monotonic() - began
                    console.out.print(f"  {one.worker}: judges by {bundle} after {after:.1f} s")
            waiting = [one for one in says if not one.serves(bundle)]
            refusing = [w for w in waiting if name in w.refused and beats.get(w.worker, 0) >= _BEATS]
            if not waiting:
                if not says:
                    console.out.print("No worker runs now; one that starts judges by it.")
                return console.OK
            if len(refusing) == len(waiting) or time.monotonic() - began > wait_s:
                break
            time.sleep(_ASK_S)
        for one in waiting:
            others = ", ".join(b for b in one.bundles if b.startswith(f"{name.partition('/')[0]}/")) or "none"
            why = one.refused.get(name, f"has not said so within {wait_s:g} s")
            console.out.print(f"  {one.worker}: still judges by {others}: {why}", soft_wrap=True)
        return console.BROKEN_PROMISE


def _holds(settings: Settings) -> desk.InService:
    bus = open_bus(settings, "control")
    try:
        return desk.in_service(bus, settings.topic("control"))
    finally:
        bus.close()


def _checked(settings: Settings, product: str, version: str) -> Bundle:
    """The bundle, read and found whole: a command is not sent for one that the workers would refuse."""
    return open_registry(settings.models, settings.model_store).check(product, version)


def _judging(store: VerdictStore, settings: Settings, product: str) -> str | None:
    """The version that judges where nobody activated one: by the workers' word, else the highest."""
    start = f"{product}/"
    said = {
        bundle.partition("@")[0].removeprefix(start)
        for one in desk.workers_say(store, settings.topic_prefix)
        for bundle in one.bundles
        if bundle.startswith(start)
    }
    if len(said) == 1:
        return said.pop()
    return open_registry(settings.models, settings.model_store).highest().get(product)


def _said(passes: float, rejects: float) -> str:
    """Two limits in words."""
    if passes == rejects:
        return f"pass up to {passes:g} and reject above"
    return f"pass up to {passes:g}, review up to {rejects:g} and reject above"


def _taught(bundle: Bundle, mode: Mode) -> Limits:
    """The limits of a mode that a bundle was taught with. Raises SettingsError: it has no such mode."""
    manifest = bundle.manifest
    by_mode = manifest["point"]["thresholds"][manifest["fusion"]]
    if mode.value not in by_mode:
        raise SettingsError(
            f"{bundle.name}/{bundle.version} has no mode {mode.value}, only {', '.join(sorted(by_mode))}"
        )
    return Limits.from_map(by_mode[mode.value])


def _row(
    entry: Entry, entries: list[Entry], holds: desk.InService, says: list[desk.Says], *, known: bool
) -> dict[str, object]:
    name = f"{entry.product}/{entry.version}"
    short = name if entry.digest is None else short_name(name, entry.digest)
    command = holds.activated.get(entry.product)
    state = ""
    if command is not None:
        if command.value == entry.version:
            wrong = command.digest is not None and entry.digest not in (None, command.digest)
            state = "active, but another digest is meant" if wrong else "active"
        elif command.previous[:1] == (entry.version,):
            state = "previous"
    elif known and entry is [one for one in entries if one.product == entry.product][-1]:
        state = "highest"
    return {
        "product": entry.product,
        "version": entry.version,
        "at": entry.at,
        "digest": entry.digest,
        "where": entry.where,
        "state": state,
        "workers": [one.worker for one in says if one.serves(short)],
        "refused": {one.worker: one.refused[name] for one in says if name in one.refused},
    }


def _print(rows: list[dict[str, object]], holds: desk.InService, says: list[desk.Says], idle: str) -> None:
    table = Table()
    for heading in ("product", "version", "written", "hash", "state", "workers"):
        table.add_column(heading)
    for row in rows:
        digest, at = row["digest"], row["at"]
        state = str(row["state"])
        assert isinstance(at, float)
        table.add_row(
            str(row["product"]),
            str(row["version"]),
            datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M"),
            "-" if digest is None else str(digest)[:12],
            f"[bold]{state}[/bold]" if state.startswith("active") else state,
            _workers(row),
        )
    console.out.print(table)
    for (product, _), setting in holds.thresholds.items():
        console.out.print(
            f"{setting.mode.value} of {product}/{setting.version}: {_of(setting)}, set after teaching"
        )
    there = {f"{row['product']}/{row['version']}" for row in rows}
    for product, command in holds.activated.items():
        name = f"{product}/{command.value}"
        if name not in there:
            refusing = [one.worker for one in says if name in one.refused]
            by = f"; refused by {_few(refusing)}" if refusing else ""
            console.out.print(
                f"{name} is active and is neither in this folder nor in the store{by}", soft_wrap=True
            )
    if not says:
        console.out.print(idle)


def _workers(row: dict[str, object]) -> str:
    workers, refused = row["workers"], row["refused"]
    assert isinstance(workers, list)
    assert isinstance(refused, dict)
    return _few([*workers, *(f"{worker} refuses it" for worker in refused)])


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _of(setting: ThresholdSetting) -> str:
    assert setting.number is not None
    return _said(setting.number if setting.pass_limit is None else setting.pass_limit, setting.number)


def _setting(product: str, setting: ThresholdSetting) -> dict[str, object]:
    return {
        "product": product,
        "mode": setting.mode.value,
        "number": setting.number,
        "pass_limit": setting.pass_limit,
        "version": setting.version,
    }
