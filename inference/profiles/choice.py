"""Which profile: by its name while teaching, by a bundle's manifest while inspecting."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inference.errors import BundleError, TeachError
from inference.profiles.base import Profile
from inference.profiles.compact import CompactProfile
from inference.profiles.reference import PRECISIONS, ReferenceProfile, ReferenceSettings
from inference.profiles.runtime import Runtime

PROFILES = (CompactProfile.name, ReferenceProfile.name)


def chosen(
    name: str, reference: ReferenceSettings, precision: str, device: torch.device, runtime: Runtime | None
) -> Profile:
    """The profile of that name, to teach with.

    Args:
        name: one of ``PROFILES``.
        reference: settings of the reference profile.
        precision: of the compact profile's colour network.
        device: where networks run.
        runtime: where weights are; None takes what is installed.

    Raises:
        TeachError: there is no such profile.
        WeightsError: its weights are not there, or are others.
    """
    runtime = runtime or Runtime()
    if name == CompactProfile.name:
        return CompactProfile(device, runtime=runtime.colour, precision=precision)
    if name == ReferenceProfile.name:
        return ReferenceProfile.load(reference, runtime, device)
    raise TeachError(f"profile {name!r}: expected {' or '.join(PROFILES)}")


def profile_of(
    identity: Mapping[str, object], device: torch.device, runtime: Runtime | None, where: str
) -> Profile:
    """The profile that a bundle was taught with.

    Raises:
        BundleError: what is installed here, or the weights given, would give other tokens.
        WeightsError: the weights are not there.
    """
    runtime = runtime or Runtime()
    profile: Profile | None = None
    if identity.get("name") == ReferenceProfile.name:
        settings = ReferenceSettings.from_map(identity.get("settings"))
        profile = ReferenceProfile.load(settings, runtime, device)
    elif identity.get("name") == CompactProfile.name and identity.get("precision") in PRECISIONS:
        profile = CompactProfile(device, runtime=runtime.colour, precision=str(identity["precision"]))
    if profile is None or profile.identity() != identity:
        raise BundleError(
            f"{where}: taught with other features or other network weights than are used here: give the "
            "weights it was taught with, or teach the product again with this version"
        )
    return profile
