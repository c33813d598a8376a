"""`crosscheck rights` prints the table that the servers were given."""

from __future__ import annotations

import shlex

import pytest

from workers.commands.rights import run_rights
from workers.errors import SettingsError
from workers.rights import RIGHTS, kafka_commands, kafka_rights, redis_rules, rights_of, user
from workers.settings import Settings
from workers.topics import StationMap, TopicPlan

SETTINGS = Settings(topic_prefix="line", group="pool", kafka="broker:9093")


def test_the_lines_for_redis_can_be_piped_into_its_client(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_rights(SETTINGS, process=None, stations=["s1", "s2"], show="redis") == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[2]: shlex.split(line)[3:] for line in lines}
    expected = {user(row.process): redis_rules(row, ["s1", "s2"]) for row in RIGHTS if row.commands}
    assert {name: rules[:-1] for name, rules in told.items()} == expected
    assert all(rules[-1] == ">PASSWORD" for rules in told.values())
    assert all(any(rule.startswith("~{s2}:") for rule in rules) for rules in told.values())


def test_the_lines_for_kafka_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_rights(SETTINGS, process="worker", stations=["s1"], show="kafka") == 0
    lines = capsys.readouterr().out.splitlines()
    rights = list(kafka_rights(rights_of("worker"), prefix="line", group="pool"))
    assert lines == kafka_commands(rights, "broker:9093")
    assert any(
        "--operation Read --topic line.frames --resource-pattern-type literal" in each for each in lines
    )
    assert any("--operation Read --group pool " in each for each in lines)
    assert any("--transactional-id pool. --resource-pattern-type prefixed" in each for each in lines)


def test_the_table_names_every_process_and_what_no_list_can_forbid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_rights(SETTINGS, process=None, stations=["s1"], show="table") == 0
    printed = capsys.readouterr().out
    for row in RIGHTS:
        assert row.process in printed


def test_the_table_speaks_of_topics_that_there_are() -> None:
    planned = {name.removeprefix("line.") for name in TopicPlan(StationMap({"s1": 0}), prefix="line").specs()}
    named = {topic for row in RIGHTS for topic in row.topics}
    assert named - {"*"} <= planned
    # A topic that somebody writes is read by somebody.
    written = {topic for row in RIGHTS for topic, may in row.topics.items() if "Write" in may}
    assert written <= {topic for row in RIGHTS for topic, may in row.topics.items() if "Read" in may}


def test_only_who_decides_or_holds_a_decision_can_write_one() -> None:
    writers = {row.process for row in RIGHTS if "set" in row.commands and "{STATION}:verdict:*" in row.keys}
    assert writers == {"worker", "gate", "replay"}
    topics = {row.process for row in RIGHTS if "Write" in row.topics.get("verdicts", ())}
    assert topics == {"worker"}


@pytest.mark.parametrize(
    ("process", "stations", "show", "said"),
    [
        ("nobody", ["s1"], "table", "'nobody': none of agent, worker"),
        (None, [], "table", "--stations NAME"),
        (None, ["s1"], "xml", "use table, kafka or redis"),
        (None, ["{s1}"], "redis", "station '{s1}'"),
    ],
)
def test_what_cannot_be_printed_is_said(
    process: str | None, stations: list[str], show: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        run_rights(SETTINGS, process=process, stations=stations, show=show)
