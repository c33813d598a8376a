"""``crosscheck challenge``: the next parts of a station are known to be bad, and must be rejected."""

from __future__ import annotations

import time

from workers.commands import console
from workers.commands.local import open_store
from workers.logs import configure_logs
from workers.settings import Settings


def run_challenge(settings: Settings, *, station: str, parts: int, within_s: int, wait_s: float = 3.0) -> int:
    """Arm the station, and say whether its gate has taken it within ``wait_s``; not 0 where none has."""
    configure_logs(settings.log)
    store = open_store(settings)
    name = store.arm_challenge(station, parts=parts, ttl_s=within_s)
    what = "next part" if parts == 1 else f"next {parts} parts"
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        waiting = store.armed_challenge(station)
        if waiting is None or waiting.id != name:
            console.out.print(
                f"armed: the {what} of {station} within {within_s} s will be kept out, and must be rejected."
                " Put the bad part on the belt now; anything but REJECT locks the gate."
            )
            return console.OK
        time.sleep(0.05)
    console.out.print(
        f"asked, but no gate of {station} has taken it yet: wait with the bad part until `crosscheck"
        f" challenge` says armed. A gate that starts within {within_s} s takes it."
    )
    return console.BROKEN_PROMISE
