"""The command line called within the tests' own process, which spares each mistake an import of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
import torch

from tests.e2e.processes import Done
from workers.cli import main

Call = Callable[..., Done]


@contextmanager
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> Iterator[Call]:
    """Gives ``call(*words) -> Done``; logs and settings are afterwards as they were before."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CROSSCHECK_CONFIG", raising=False)

    def call(*words: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["crosscheck", *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        return Done(code if isinstance(code, int) else int(code is not None), said.out, said.err)

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)
    # The log writes to this test's own standard error, which is about to go.
    structlog.reset_defaults()


def assert_one_line(done: Done, code: int, *words: str) -> None:
    """One line on standard error that says each of the words, the exit code, and no traceback."""
    assert done.code == code, (done.code, done.err)
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("crosscheck: ")
    for word in words:
        assert word in lines[0], lines[0]
