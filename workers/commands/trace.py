"""``crosscheck trace``: the id of a part's trace."""

from __future__ import annotations

from schemas.errors import InvalidField
from schemas.part import PartKey
from workers.commands import console
from workers.errors import SettingsError
from workers.tracing.context import trace_id


def run_trace(text: str) -> None:
    """Print it as 32 hexadecimal digits.

    Raises:
        SettingsError: it is no part key.
    """
    try:
        part = PartKey.parse(text)
    except InvalidField as error:
        raise SettingsError(str(error)) from None
    console.out.print(f"{trace_id(str(part).encode()):032x}", highlight=False)
