"""A mistake costs the user one line: it names the file or field and the fix, and the exit code is not 0."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference.bundle import write_bundle
from inference.datasets.surface import write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from tests.e2e.inprocess import Call, assert_one_line, command_line
from tests.e2e.processes import crosscheck
from workers.topics import StationMap

WRONG = 2
AWAY = 3


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    """Runs a command in an empty folder."""
    with command_line(monkeypatch, capsys, tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = SyntheticDataset(train=12, validation=4, test_good=2, defects_per_kind=1, size=64, lot_size=2)
    return write_surface_layout(dataset, tmp_path_factory.mktemp("written"))


@pytest.fixture
def data(_written: Path, tmp_path: Path) -> Path:
    """A small folder of parts that a test may damage."""
    return Path(shutil.copytree(_written, tmp_path / "data"))


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# Data


@pytest.mark.parametrize("command", [("teach", "cap"), ("evaluate", "--bundle", "b"), ("capture",)])
def test_a_missing_folder_is_named(call: Call, command: tuple[str, ...]) -> None:
    assert_one_line(call(*command, "--data", "nowhere"), WRONG, "nowhere", "no such folder", "train/")


def test_a_missing_validation_split_is_held_out_of_the_good_frames_and_said(call: Call, data: Path) -> None:
    shutil.rmtree(data / "validation")
    done = call("teach", "cap", "--data", str(data))
    assert "note: no validation split: " in done.out, done.err
    assert "held out of teaching to set thresholds" in done.out


def test_lots_that_cannot_set_a_threshold_are_named_before_any_model_work(call: Call, data: Path) -> None:
    shutil.rmtree(data / "validation")
    done = call("teach", "cap", "--data", str(data), "--folds", "0")
    assert_one_line(done, WRONG, "come from 1 lot", "--folds 5")
    assert not Path("models").exists()


def test_images_of_different_sizes_are_named_with_both_sizes(call: Call, data: Path) -> None:
    depth = sorted((data / "train" / "good" / "depth").iterdir())[0]
    cv2.imwrite(str(depth), np.ones((48, 32), np.uint16))
    assert_one_line(
        call("teach", "cap", "--data", str(data)), WRONG, depth.name, "64 x 64", "32 x 48", "align"
    )


def test_a_colour_image_without_its_depth_is_named(call: Call, data: Path) -> None:
    depth = sorted((data / "train" / "good" / "depth").iterdir())[0]
    depth.unlink()
    assert_one_line(call("teach", "cap", "--data", str(data)), WRONG, depth.stem, "no partner")


def test_evaluating_without_a_test_split_is_refused(call: Call, data: Path) -> None:
    shutil.rmtree(data / "test")
    done = call("evaluate", "--bundle", "models/cap/1", "--data", str(data))
    assert_one_line(done, WRONG, str(data / "test"), "test/good")


def test_an_unknown_split_is_refused_with_the_known_ones(call: Call, data: Path) -> None:
    done = call("capture", "--data", str(data), "--split", "tset")
    assert_one_line(done, WRONG, "'tset'", "train, validation, test")


# Bundles


def a_bundle(models: Path) -> Path:
    """A bundle whose manifest and tensors belong together; no model, but it is refused before that shows."""
    return write_bundle(models, "cap", "1", {}, {"a": torch.zeros(4)})


def test_a_bundle_whose_tensors_were_changed_is_refused_by_an_evaluation(
    call: Call, data: Path, tmp_path: Path
) -> None:
    bundle = a_bundle(tmp_path / "models")
    tensors = bundle / json.loads((bundle / "manifest.json").read_text())["tensors"]["file"]
    raw = bytearray(tensors.read_bytes())
    raw[-1] ^= 1
    tensors.write_bytes(raw)
    done = call("evaluate", "--bundle", str(bundle), "--data", str(data))
    assert_one_line(done, WRONG, str(tensors.relative_to(tmp_path)), "sha256")


def test_a_bundle_that_is_not_there_is_named(call: Call, data: Path) -> None:
    done = call("evaluate", "--bundle", "models/cap/7", "--data", str(data))
    assert_one_line(done, WRONG, "models/cap/7")


def test_a_missing_models_folder_is_named_with_the_command_that_fills_it(call: Call) -> None:
    assert_one_line(call("worker", "--models", "nowhere"), WRONG, "nowhere", "teach", "CROSSCHECK_MODELS")


def test_an_empty_models_folder_is_not_a_worker(call: Call, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert_one_line(call("worker", "--models", "models"), WRONG, "models", "crosscheck teach")


@pytest.mark.parametrize("name", ["a/b", "..", "a b", ""])
def test_a_product_name_that_is_no_folder_name_is_refused(call: Call, data: Path, name: str) -> None:
    assert_one_line(call("teach", name, "--data", str(data)), WRONG, "product")


# Services


@pytest.mark.parametrize("words", [("capture",), ("topics",), ("topics", "--stations", "a,b")])
def test_a_broker_that_is_away_is_named_within_seconds(
    call: Call, nobody: str, words: tuple[str, ...]
) -> None:
    started = time.monotonic()
    assert_one_line(call(*words, "--kafka", nobody), AWAY, nobody, "crosscheck services up")
    assert time.monotonic() - started < 12
    assert not Path("stations.json").exists()


def test_a_redis_that_is_away_is_named_within_seconds(call: Call, nobody: str) -> None:
    started = time.monotonic()
    done = call("gate", "--parts", "triggers.jsonl", "--redis", f"redis://:secret@{nobody}/0")
    assert_one_line(done, AWAY, nobody, "check that it runs")
    assert "secret" not in done.err
    assert time.monotonic() - started < 12


def test_an_address_without_a_port_is_refused(call: Call) -> None:
    assert_one_line(call("topics", "--kafka", "localhost"), WRONG, "localhost", "HOST:PORT")


def test_a_redis_url_of_another_kind_is_refused(call: Call) -> None:
    done = call("gate", "--parts", "t.jsonl", "--redis", "http://127.0.0.1:1")
    assert_one_line(done, WRONG, "http://127.0.0.1:1", "redis://HOST:PORT")


def test_services_that_were_never_started_are_reported_as_away(call: Call) -> None:
    done = call("services", "status")
    assert done.code == AWAY
    assert "crosscheck services up" in " ".join(done.out.split())
    assert done.err == ""


@pytest.mark.services
def test_a_broker_without_the_topics_is_no_line(call: Call, kafka_bootstrap: str, kafka_topic: str) -> None:
    Path("crosscheck.toml").write_text(f'topic_prefix = "{kafka_topic}"\nkafka = "{kafka_bootstrap}"\n')
    done = call("capture", "--config", "crosscheck.toml")
    assert_one_line(done, AWAY, f"{kafka_topic}.frames", "crosscheck topics")


# Settings and options


def test_a_station_that_is_not_on_the_map_is_named_with_those_that_are(call: Call, tmp_path: Path) -> None:
    StationMap({"s1": 0, "s2": 1}).save(tmp_path / "stations.json")
    done = call("capture", "--station", "s9", "--stations", "stations.json")
    assert_one_line(done, WRONG, "'s9'", "s1, s2", "crosscheck topics --stations")


@pytest.mark.parametrize("text", ["", "[]", '{"v": 2}', '{"v": 1, "stations": {"s1": -1}, "partitions": 1}'])
def test_a_file_that_is_no_station_map_is_named(call: Call, tmp_path: Path, text: str) -> None:
    (tmp_path / "stations.json").write_text(text)
    assert_one_line(call("capture", "--stations", "stations.json"), WRONG, "station map stations.json")


@pytest.mark.parametrize("names", ["", "a b", "s1,s1", "a/b"])
def test_station_names_that_cannot_be_keys_are_refused(call: Call, names: str) -> None:
    assert_one_line(call("topics", "--stations", names, "--dry-run"), WRONG, "station")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch = [", ("crosscheck.toml", "not TOML")),
        ("max_bach = 4", ("crosscheck.toml", "max_bach", "max_batch")),
        ('max_batch = "many"', ("crosscheck.toml", "max_batch", "'many'")),
    ],
)
def test_a_settings_file_with_a_mistake_is_named(
    call: Call, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "crosscheck.toml").write_text(text)
    assert_one_line(call("worker", "--config", "crosscheck.toml"), WRONG, *words)


def test_a_settings_file_that_is_not_there_is_named(call: Call) -> None:
    assert_one_line(call("worker", "--config", "none.toml"), WRONG, "none.toml", "--config")


@pytest.mark.parametrize(
    ("variable", "value"), [("MAX_BATCH", "many"), ("LOG", "loud"), ("MAX_DELAY_MS", "-1")]
)
def test_a_variable_with_an_impossible_value_is_named(
    call: Call, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"CROSSCHECK_{variable}", value)
    assert_one_line(call("worker"), WRONG, f"CROSSCHECK_{variable}", f"'{value}'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("worker", "--modles", "m"), "--models"),
        (("--nope",), "--nope"),
        (("inspect",), "inspect"),
        (("teach", "cap"), "--data"),
        (("capture", "--rate", "fast"), "--rate"),
        (("gate",), "--parts"),
        (("capture", "--colour", "webp"), "jpeg, png, raw"),
        (("demo", "--parts", "10"), "200"),
    ],
)
def test_a_wrong_option_is_told_with_where_to_look(call: Call, words: tuple[str, ...], said: str) -> None:
    assert_one_line(call(*words), WRONG, said)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e308"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("teach", "cap", "--data", "none"), "--false-reject"),
        (("teach", "cap", "--data", "none"), "--review-share"),
        (("evaluate", "--bundle", "none", "--data", "none", "--grant", "RGB"), "--max-miss"),
        (("benchmark", "--data", "none"), "--bootstrap"),
        (("topics", "--stations", "a"), "--frames-per-second"),
        (("topics", "--stations", "a"), "--frame-kb"),
        (("topics", "--stations", "a"), "--retention-hours"),
        (("capture", "--station", "a"), "--rate"),
        (("capture", "--station", "a"), "--deadline"),
        (("capture", "--station", "a"), "--buffer-mb"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_by_its_option(
    call: Call, words: tuple[str, ...], option: str, value: str
) -> None:
    done = call(*words, option, value)
    assert_one_line(done, WRONG)
    assert option in done.err or option.strip("-").replace("-", "_") in done.err, done.err


def test_teach_ends_with_what_a_product_of_one_sensor_is_held_for(call: Call, data: Path) -> None:
    for depth in data.rglob("depth"):
        shutil.rmtree(depth)
    done = call("teach", "cap", "--data", "data", "--no-foreground", "--no-roi")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "as taught, every part is held for review until `crosscheck evaluate --bundle" in said
    assert "--grant RGB --max-miss 0.05` has shown" in said
    assert said.endswith("enough")


def test_a_bare_command_shows_what_there_is(call: Call) -> None:
    done = call()
    assert done.code == WRONG
    assert done.err == ""
    for name in ("demo", "teach", "evaluate", "capture", "worker", "gate", "services", "topics"):
        assert name in done.out


@pytest.mark.parametrize("place", ["a-file/out.json", "a-folder"])
def test_a_result_that_cannot_be_written_is_said_before_the_work(
    call: Call, data: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-folder").mkdir()
    done = call("teach", "cap", "--data", str(data), "--json", place)
    assert_one_line(done, WRONG, f"--json {place}", "writable")
    assert not Path("models").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("teach", "cap", "--data", "data", "--out", "a-file/models"),
        ("demo", "--out", "a-file/demo"),
    ],
)
def test_a_folder_that_cannot_be_made_is_named(
    call: Call, data: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "a-file").write_text("")
    assert_one_line(call(*words), WRONG, "a-file")


# As processes: what the user really sees


def test_a_process_ends_with_the_line_and_the_code_and_nothing_else(tmp_path: Path, nobody: str) -> None:
    done = crosscheck("topics", "--kafka", nobody, folder=tmp_path, timeout=30)
    assert_one_line(done, AWAY, nobody)
    assert "Traceback" not in done.out + done.err
    assert_one_line(crosscheck("worker", "--models", "none", folder=tmp_path, timeout=30), WRONG, "none")


# What is no file


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe that nobody ever writes to or reads from."""
    os.mkfifo(tmp_path / "pipe.json")
    return "pipe.json"


@pytest.mark.parametrize(
    "command",
    [
        ("teach", "cap", "--data", "data", "--station", "pipe.json"),
        ("teach", "cap", "--data", "data", "--json", "pipe.json"),
        ("evaluate", "--bundle", "models/cap/1", "--data", "data", "--report", "pipe.json"),
        ("evaluate", "--bundle", "models/cap/1", "--data", "data", "--json", "pipe.json"),
        ("capture", "--data", "data", "--station", "s1", "--product", "cap", "--stations", "pipe.json"),
        ("worker", "--models", "models", "--config", "pipe.json"),
        ("calibrate", "--station", "s1", "--data", "data", "--rays", "pipe.json", "--out", "s1.json"),
        ("audit", "--triggers", "pipe.json", "--journal", "pipe.json"),
    ],
    ids=lambda command: " ".join(command),
)
def test_a_pipe_that_is_named_for_a_file_is_refused_and_never_waited_for(
    call: Call, data: Path, pipe: str, command: tuple[str, ...]
) -> None:
    assert_one_line(call(*command), WRONG, "pipe.json", "named pipe")


def test_a_pipe_in_the_place_of_a_manifest_or_of_lots_is_refused(call: Call, data: Path) -> None:
    folder = Path("models/cap/1")
    folder.mkdir(parents=True)
    os.mkfifo(folder / "manifest.json")
    done = call("evaluate", "--bundle", str(folder), "--data", str(data))
    assert_one_line(done, WRONG, "manifest.json", "named pipe")
    (data / "groups.csv").unlink()
    os.mkfifo(data / "groups.csv")
    assert_one_line(call("teach", "cap", "--data", str(data)), WRONG, "groups.csv", "named pipe")


def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(call: Call, data: Path) -> None:
    Path("taken").write_text("a file")
    assert_one_line(call("teach", "cap", "--data", str(data), "--out", "taken"), WRONG, "--out taken")
