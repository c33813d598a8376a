"""Thresholds set after teaching: each holds for one version of one product's bundle, in one mode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from inference.inspection import Inspection
from schemas.command import Command, ThresholdSetting
from schemas.verdict import Mode

MAX_SETTINGS = 10_000


class Thresholds:
    """What THRESHOLD commands set. One thread sets them, between batches."""

    def __init__(self) -> None:
        self._settings: dict[tuple[str, Mode], ThresholdSetting] = {}

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

    def applied(self, inspection: Inspection, bundle: str) -> Inspection:
        """The evidence with the threshold that holds; as it is where none was set for that very bundle.

        Only a threshold is replaced, and only one that is there: what has no score or no finite threshold
        keeps its own and ends as it would have. A mode that may pass alone was granted that for the misses
        measured at the taught threshold, so under a higher one it may not.

        Args:
            bundle: NAME/VERSION of the bundle that judged.
        """
        taught = inspection.threshold
        if inspection.error is not None or inspection.mode is None or taught is None:
            return inspection
        product, _, version = bundle.partition("/")
        setting = self._settings.get((product, inspection.mode))
        if setting is None or setting.version != version or not math.isfinite(taught):
            return inspection
        number = setting.number
        if number is None or not math.isfinite(number):
            return inspection
        granted = inspection.degraded_pass and (inspection.mode is Mode.FUSED or number <= taught)
        return replace(inspection, threshold=number, degraded_pass=granted)

    @property
    def settings(self) -> Mapping[tuple[str, Mode], ThresholdSetting]:
        """Every setting, by product and mode."""
        return dict(self._settings)
