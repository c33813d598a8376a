"""The reference in docs/ is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.reference.__main__ import files
from workers.reference.tables import key_rows, metric_rows, settings_rows
from workers.settings import Settings
from workers.telemetry.names import METRICS

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("name", ["reference.md", "asyncapi.yaml"])
def test_the_file_in_docs_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == files()[name], (
        f"docs/{name} is stale: run `make docs`"
    )


def test_every_setting_and_metric_has_a_row_and_says_what_it_is() -> None:
    assert len(settings_rows()) == len(Settings.model_fields)
    assert len(metric_rows()) == len(METRICS)
    assert [row[0] for row in (*settings_rows(), *metric_rows()) if not row[-1].strip()] == []


def test_every_key_in_redis_is_used_by_a_process_that_has_the_right() -> None:
    assert [name for name, _, users in key_rows() if not users] == []
