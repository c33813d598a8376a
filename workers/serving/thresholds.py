"""Limits set after teaching: by a command for one version of a bundle, or by confirmed good parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import structlog

from inference.calibration import Limits
from inference.inspection import Inspection
from schemas.command import Command, Confirmation, ThresholdSetting
from schemas.verdict import Mode
from workers.models import Model

log = structlog.get_logger(__name__)

MAX_SETTINGS = 10_000
MAX_CONFIRMED = 100_000
"""Confirmed parts of all products that are kept; further ones are named in the log and do not count."""

Judged = tuple[str, Mode]
"""The digest of a bundle's manifest, and a mode."""


class Thresholds:
    """What THRESHOLD and CONFIRM commands say. One thread tells it, between batches."""

    def __init__(self) -> None:
        self._settings: dict[tuple[str, Mode], ThresholdSetting] = {}
        self._confirmed: dict[Judged, dict[str, float]] = {}
        self._where: dict[str, Judged] = {}
        self._moved: dict[Judged, Limits] = {}

    def set(self, command: Command) -> None:
        """Take a setting; it replaces the one of that product and mode, of whatever version that was.

        Raises:
            InvalidField: its value cannot be read.
        """
        setting = ThresholdSetting.parse(command.value or "")
        key = command.product or "", setting.mode
        if setting.number is None:
            self._settings.pop(key, None)
        elif key in self._settings or len(self._settings) < MAX_SETTINGS:
            self._settings[key] = setting

    def confirm(self, command: Command) -> None:
        """Take what a person said of a part, in place of what was said of it before.

        Raises:
            InvalidField: its value cannot be read.
        """
        said = Confirmation.parse(command.value or "")
        part, judged = command.target, (command.digest or "", said.mode)
        before = self._where.pop(part, None)
        if before is not None:
            self._confirmed[before].pop(part, None)
            self._moved.pop(before, None)
        if said.score is None:
            return
        if len(self._where) >= MAX_CONFIRMED:
            log.warning("worker.confirmation_left_out", part=part, most=MAX_CONFIRMED)
            return
        self._where[part] = judged
        self._confirmed.setdefault(judged, {})[part] = said.score
        self._moved.pop(judged, None)

    def applied(self, inspection: Inspection, model: Model) -> Inspection:
        """The evidence with the limits that hold; as it is where nothing was said of that very bundle.

        Limits that a command set go before what confirmed parts moved. Only limits are replaced, and only
        where there are some: what has no score or no finite limit keeps its own and ends as it would have. A
        mode that may pass alone was granted that for the misses measured at the taught pass limit, so under a
        higher one it may not.

        Args:
            model: the bundle that judged.
        """
        taught = inspection.pass_limit
        if inspection.error is not None or inspection.mode is None or taught is None:
            return inspection
        if not math.isfinite(taught):
            return inspection
        limits = self._holding(inspection.mode, model)
        if limits is None:
            return inspection
        passes, rejects = limits
        granted = inspection.degraded_pass and (inspection.mode is Mode.FUSED or passes <= taught)
        return replace(inspection, threshold=rejects, pass_limit=passes, degraded_pass=granted)

    def _holding(self, mode: Mode, model: Model) -> tuple[float, float] | None:
        """What is passed and what is rejected, where it is not as taught."""
        product, _, version = model.bundle_id.partition("/")
        setting = self._settings.get((product, mode))
        if setting is not None and setting.version == version and setting.number is not None:
            return (setting.number if setting.pass_limit is None else setting.pass_limit), setting.number
        judged = model.bundle_hash, mode
        confirmed = self._confirmed.get(judged)
        if not confirmed:
            return None
        moved = self._moved.get(judged)
        if moved is None:
            taught = model.limits.get(mode)
            if taught is None:
                return None
            moved = self._moved[judged] = taught.confirmed(list(confirmed.values()))
        return moved.passes, moved.rejects

    @property
    def settings(self) -> Mapping[tuple[str, Mode], ThresholdSetting]:
        """Every setting, by product and mode."""
        return dict(self._settings)
