"""Where networks that no bundle holds are found on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where the networks that no bundle holds are found, and how they run.

    Attributes:
        dino: weights file of DINO ViT-B/8; None asks the model hub.
        point_mae: weights file of Point-MAE; the reference profile needs it.
        dino_sha256, point_mae_sha256: hex digests that the files must have. A bundle names those it was
            taught with, and no others are accepted, whatever stands here.
        colour: what runs the compact profile's colour network: "torch" or "openvino".
    """

    dino: Path | None = None
    point_mae: Path | None = None
    dino_sha256: str | None = None
    point_mae_sha256: str | None = None
    colour: str = "torch"
