"""A real Prometheus for a test: where it is, how it is started, what it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compose.process import free_ports
from tests.e2e.processes import wait_until


def program(name: str) -> str:
    """Where ``prometheus`` or ``promtool`` is. Without it the test is skipped; in CI (CI=true) it fails."""
    found = shutil.which(name)
    if found is None:
        missing = f"NOT RUN: no `{name}` here; install Prometheus (Debian: apt-get install prometheus)"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    address: str

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one answer of its API.

        Raises:
            AssertionError: it answered with an error; the text is its own.
        """
        words = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{words}", timeout=10) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None
        assert found["status"] == "success"
        assert not found.get("warnings"), found["warnings"]
        return found["data"]

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The result of an instant query: values by sorted labels, without those of the target."""
        result = self.get("query", query=expression)["result"]
        left_out = ("__name__", "instance", "job")
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in left_out)): float(
                one["value"][1]
            )
            for one in result
        }

    def firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires."""
        alerts = self.get("alerts")["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]


@contextlib.contextmanager
def running(folder: Path, config: Path) -> Iterator[Prometheus]:
    """Start it on loopback, its data in ``folder``; it is gone at the end."""
    [port] = free_ports(1)
    found = Prometheus(f"127.0.0.1:{port}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={found.address}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: found.ready() or process.poll() is not None, 20.0, "a Prometheus that is ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text(errors="replace")[-2000:]
        yield found
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)
