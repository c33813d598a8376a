"""From a bundle's folder to a model that is ready: read, checked, put together, warmed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inference.errors import BundleError
from inference.inspector import Inspector
from inference.profiles.runtime import Runtime
from workers.models import Model

Ready = Callable[[Path], Model]
"""Makes a warm model of a bundle's folder. Raises whatever is wrong with it."""
_NICE = 10


def ready(path: Path, *, device: str = "cpu", parallel: int = 1, runtime: Runtime | None = None) -> Inspector:
    """The inspector of the bundle MODELS/PRODUCT/VERSION, warmed.

    Raises:
        BundleError: it is refused, or lies under another product's or version's name.
    """
    inspector = Inspector.load(path, device=device, parallel=parallel, runtime=runtime)
    product, version = path.parent.name, path.name
    if (inspector.product, inspector.version) != (product, version):
        # Copied under another name it would judge another product's parts.
        raise BundleError(
            f"{path}: its manifest says {inspector.bundle_id}; put it at "
            f"{path.parent.parent / inspector.bundle_id} or teach {product}"
        )
    inspector.warm()
    return inspector


def loader() -> ThreadPoolExecutor:
    """One thread that loads beside the line, and gives way to it."""
    return ThreadPoolExecutor(1, thread_name_prefix="load", initializer=_give_way)


def _give_way() -> None:
    # On Linux a thread has a niceness of its own; elsewhere it would be the whole process's.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
