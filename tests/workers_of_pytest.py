"""How pytest's own workers (``pytest -n 2``) share the tests and the services among them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from compose.services import Services

SHARED = "shared"
# Files of these folders share what is slow to make, a line or a broker: one worker takes the whole folder.
_TOGETHER = ("board", "faults", "security")

_folder = pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is never divided: its fixtures are made once. Files go in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = Path(file).parts[1]
            return folder if folder in _TOGETHER else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Each worker is told of the folder that they share."""
    stash = node.config.stash
    if _folder not in stash:
        stash[_folder] = Path(tempfile.mkdtemp(prefix="crosscheck-tests-"))
    node.workerinput[SHARED] = str(stash[_folder])


def pytest_unconfigure(config: pytest.Config) -> None:
    """The workers are gone, and whoever of them started the services: stop these."""
    if (folder := config.stash.get(_folder, None)) is not None:
        Services(folder / "services").down()
        shutil.rmtree(folder, ignore_errors=True)
