"""Commands that score nothing start without the model's library: it takes seconds, and 300 MB."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["gate", "capture", "archive", "size", "services"])
def test_a_command_that_scores_nothing_starts_without_torch(command: str) -> None:
    look = f"import sys, workers.commands.{command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
