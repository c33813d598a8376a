"""What a candidate bundle says beside the active one: /api/shadow."""

from __future__ import annotations

from typing import Any


class Shadow:
    """Reads the comparison that `crosscheck shadow` keeps in Redis."""

    def body(self) -> dict[str, Any]:
        """The comparison by product; empty while nothing is compared."""
        return {"products": []}
