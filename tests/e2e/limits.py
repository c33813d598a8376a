"""For tests of the line, not of detection: what a bundle would hold for a person passes."""

from __future__ import annotations

from pathlib import Path

from inference.bundle import read_bundle
from inference.calibration import Limits
from schemas.command import ThresholdSetting
from schemas.verdict import Mode
from workers.bus.base import Bus
from workers.serving import desk


def hold_none_between(bus: Bus, control: str, models: Path) -> None:
    """Tell the workers to pass up to the taught reject limit, of each bundle in a folder, with both sensors.

    A few good parts, as tests teach, leave most of their like between the limits.

    Args:
        control: the full name of the control topic; before the workers begin.
    """
    for manifest in sorted(models.glob("*/*/manifest.json")):
        bundle = read_bundle(manifest.parent)
        taught = bundle.manifest["point"]["thresholds"][bundle.manifest["fusion"]][Mode.FUSED.value]
        rejects = Limits.from_map(taught).rejects
        setting = ThresholdSetting(mode=Mode.FUSED, number=rejects, version=bundle.version)
        desk.send(bus, control, desk.threshold(bundle.name, setting))
