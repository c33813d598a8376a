"""Settings: environment, file, flags; a mistake is told by the name of the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import SettingsError
from workers.settings import load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROSSCHECK_CONFIG", raising=False)


def test_flags_win_over_the_file_and_the_file_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCHECK_GROUP", "from-env")
    monkeypatch.setenv("CROSSCHECK_MAX_BATCH", "3")
    monkeypatch.setenv("CROSSCHECK_THREADS", "1")
    file = tmp_path / "crosscheck.toml"
    file.write_text('group = "from-file"\nmax_batch = 4\n')
    settings = load_settings(file, max_batch=5)
    assert (settings.group, settings.max_batch, settings.threads) == ("from-file", 5, 1)


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert load_settings(None, group=None).group == "crosscheck-workers"


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("CROSSCHECK_MAX_BATCH", "many", "CROSSCHECK_MAX_BATCH"),
        ("CROSSCHECK_MAX_BATCH", "0", "CROSSCHECK_MAX_BATCH"),
        ("CROSSCHECK_MIN_COVERAGE", "2", "CROSSCHECK_MIN_COVERAGE"),
        ("CROSSCHECK_MAX_IN_FLIGHT", "2", "CROSSCHECK_MAX_BATCH"),
        ("CROSSCHECK_PAIR_WAIT_MS", "20000", "CROSSCHECK_STALL_S"),
    ],
)
def test_an_impossible_value_names_its_variable(
    variable: str, value: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=word):
        load_settings()


def test_an_unknown_name_in_the_file_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "crosscheck.toml"
    file.write_text("max_bach = 4\n")
    with pytest.raises(SettingsError, match=r"max_bach.*max_batch"):
        load_settings(file)


def test_a_missing_file_and_a_broken_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load_settings(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("max_batch = = 4")
    with pytest.raises(SettingsError, match="not TOML"):
        load_settings(broken)


def test_a_misspelt_variable_is_refused_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCHECK_SHEDING", "late-first")
    with pytest.raises(
        SettingsError, match=r"CROSSCHECK_SHEDING: no such setting; did you mean CROSSCHECK_SHEDDING"
    ):
        load_settings()


def test_variables_that_others_read_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SURFACE", "CACHE", "SHIFTS", "KAFKA_PORT", "REDIS_PORT"):
        monkeypatch.setenv(f"CROSSCHECK_{name}", "x")
    assert load_settings().shedding == "none"


def test_a_setting_under_its_former_name_is_told_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCHECK_MAX_MESSAGE_MB", "8")
    with pytest.raises(SettingsError, match="CROSSCHECK_MAX_RECORD_BYTES"):
        load_settings()
