"""Which profile: by its name while teaching, by a bundle's manifest while inspecting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.errors import BundleError, TeachError
from inference.profiles.base import Profile
from inference.profiles.compact import CompactProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where the networks that no bundle holds are found, and how they run.

    Attributes:
        dino: weights file of DINO ViT-B/8; None asks the model hub.
        point_mae: weights file of Point-MAE.
        dino_sha256, point_mae_sha256: hex digests that the files must have; None takes any while teaching. A
            bundle names those it was taught with, and no others are accepted.
        colour: what runs the compact profile's colour network: "torch" or "openvino".
    """

    dino: Path | None = None
    point_mae: Path | None = None
    dino_sha256: str | None = None
    point_mae_sha256: str | None = None
    colour: str = "torch"


def chosen(name: str, device: torch.device, runtime: Runtime | None) -> Profile:
    """The profile of that name.

    Raises:
        TeachError: there is none.
    """
    if name == CompactProfile.name:
        return CompactProfile(device)
    raise TeachError(f"profile {name!r}: expected compact or reference")


def profile_of(
    identity: Mapping[str, object], device: torch.device, runtime: Runtime | None, where: str
) -> Profile:
    """The profile that a bundle was taught with.

    Raises:
        BundleError: what is installed here would give other tokens.
    """
    profile: Profile = CompactProfile(device)
    if profile.identity() != identity:
        raise BundleError(
            f"{where}: taught with other features or other network weights than are installed here: "
            "teach the product again with this version"
        )
    return profile
