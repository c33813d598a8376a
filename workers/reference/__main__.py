"""``python -m workers.reference DIR``: write the reference page and the AsyncAPI document."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from workers.reference.asyncapi import document
from workers.reference.page import page


def files() -> dict[str, str]:
    """The text of each file by its name."""
    spec = yaml.safe_dump(document(), sort_keys=False, width=110, allow_unicode=True)
    return {"reference.md": page(), "asyncapi.yaml": spec}


if __name__ == "__main__":
    for name, text in files().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
