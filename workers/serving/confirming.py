"""The command that tells workers what a person said of a held part."""

from __future__ import annotations

import secrets

from schemas.command import Action, Command, Confirmation
from schemas.part import PartKey


def confirmation(part: PartKey, product: str, said: Confirmation, digest: str, *, at: int) -> Command:
    """Have the limits count a part as good, or no longer.

    Args:
        digest: sha256 (hex) of the manifest of the bundle that scored it.
        at: nanoseconds since the epoch.
    """
    return Command(
        id=f"confirm-{secrets.token_hex(4)}",
        action=Action.CONFIRM,
        issued_at=at,
        target=str(part),
        product=product,
        value=str(said),
        digest=digest,
    )
