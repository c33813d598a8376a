"""Terminals to type a page in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.terminals import Terminals


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    opened = Terminals(tmp_path, {"CROSSCHECK_BOARD": f"127.0.0.1:{port}"})
    try:
        yield opened
    finally:
        opened.close()
