"""compose.yaml and gpu.yaml: their schema, our commands in them, our settings, the files they mount."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.compose.containers import (
    COMPOSE_FILE,
    FOLDER,
    GPU_FILE,
    Service,
    bytes_of,
    parse_command,
    seconds,
    services,
    shell_commands,
    unknown_variables,
)
from workers.settings import Settings, load_settings

SERVICES = services()
OURS = {name: service for name, service in SERVICES.items() if service.ours}
# The image of the broker runs as a user of its own; all others say theirs here.
OWN_USER = {"kafka"}
STOP_WITHOUT_KAFKA_S = 20.0
"""What a clean stop may take beyond ``drain_s`` while the broker is away (docs/delivery.md)."""


def each(found: dict[str, Service]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", found.values(), ids=found.keys())


def test_both_files_keep_to_the_compose_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema"))]
    command += ["--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE), str(GPU_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_is_seen_by_that_check(tmp_path: Path) -> None:
    spoilt = COMPOSE_FILE.read_text().replace("stop_grace_period:", "stop_grace_periodd:", 1)
    (tmp_path / "compose.yaml").write_text(spoilt)
    command = [str(Path(sys.executable).with_name("check-jsonschema"))]
    command += ["--builtin-schema", "vendor.compose-spec", str(tmp_path / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "stop_grace_periodd" in done.stdout


def test_docker_compose_reads_both_files() -> None:
    if shutil.which("docker") is None:
        pytest.skip("NOT RUN: no `docker` here, so `docker compose config` has not read the compose files")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip(
            "NOT RUN: docker has no compose plugin here, so `docker compose config` has not read them"
        )
    for files in ((COMPOSE_FILE,), (COMPOSE_FILE, GPU_FILE)):
        chosen = [word for file in files for word in ("-f", str(file))]
        command = ["docker", "compose", *chosen, "--profile", "*", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@each(OURS)
def test_its_commands_are_commands_of_ours(service: Service) -> None:
    if not service.raw.get("command"):
        assert service.name == "worker", f"{service.name} says no command"
    for words in service.commands:
        assert parse_command(words) in words[0] or words


def test_a_line_has_all_of_its_processes() -> None:
    ran = [parse_command(words) for service in OURS.values() for words in service.commands]
    stations = ["capture", "capture", "gate", "gate"]
    others = ["topics", "synthetic", "teach", "worker", "board", "archive", "shadow"]
    assert sorted(ran) == sorted([*stations, *others])
    assert SERVICES["worker"].raw["deploy"]["replicas"] == 2


def test_an_option_that_does_not_exist_is_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse_command(["worker", "--modles", "/models"])
    with pytest.raises(Exception, match="No such command"):
        parse_command(["wroker"])


def test_commands_in_a_shell_line_are_found() -> None:
    line = "test -e /m/1 || { crosscheck synthetic --out /p && crosscheck teach x --data /p; }"
    assert shell_commands(line) == [["synthetic", "--out", "/p"], ["teach", "x", "--data", "/p"]]


@each(SERVICES)
def test_its_variables_are_settings_with_possible_values(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unknown_variables(service.environment) == []
    for name, value in service.environment.items():
        if name.startswith("CROSSCHECK_") and value is not None:
            monkeypatch.setenv(name, value)
    load_settings()


def test_the_gpu_override_changes_only_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    override = services(GPU_FILE)
    assert set(override) <= set(SERVICES)
    for service in override.values():
        for name, value in service.environment.items():
            monkeypatch.setenv(name, str(value))
    assert load_settings().device.startswith("cuda")
    arguments = [
        line.split()[1].split("=")[0]
        for line in (FOLDER / "Dockerfile").read_text().splitlines()
        if line.startswith("ARG ")
    ]
    assert set(override["worker"].raw["build"]["args"]) <= set(arguments)


@each(SERVICES)
def test_its_volumes_are_declared_and_its_files_are_there(service: Service) -> None:
    declared = yaml.safe_load(COMPOSE_FILE.read_text())["volumes"]
    for source, target, read_only in service.mounts:
        if source.startswith("."):
            assert (FOLDER / source).exists(), f"{service.name}: {source} is not there"
            assert read_only, f"{service.name}: {source} is ours and could be written"
        else:
            assert source in declared, f"{service.name}: volume {source} is not declared"
        assert target.startswith("/")


@each(OURS)
def test_what_its_commands_write_is_on_a_volume_they_may_write(service: Service) -> None:
    if service.name in ("teach", "topics"):
        assert service.mounts
    writable = [target for _, target, read_only in service.mounts if not read_only]
    written = {"--triggers", "--buffer", "--journal", "--out", "--to"}
    read = {"--parts", "--data"}
    for words in service.commands:
        for flag, value in pairwise(words):
            if flag in written:
                assert any(value.startswith(target) for target in writable), f"{service.name}: {flag} {value}"
            if flag in read:
                assert any(value.startswith(t) for _, t, _ in service.mounts), f"{service.name}: {value}"


def test_a_gate_watches_the_log_of_its_own_station() -> None:
    for station in ("s1", "s2"):
        capture, gate = SERVICES[f"station-{station}"], SERVICES[f"gate-{station}"]
        for service in (capture, gate):
            words = service.commands[0]
            assert words[words.index("--station") + 1] == station
        (log,) = (source for source, target, _ in capture.mounts if target == "/line")
        assert (log, "/line", True) in gate.mounts
        assert gate.commands[0][gate.commands[0].index("--parts") + 1] == "/line/triggers.jsonl"
        # A late gate closes for parts that have gone by.
        assert capture.needs[gate.name] == "service_healthy"
    stations = SERVICES["topics"].commands[0]
    assert stations[stations.index("--stations") + 1] == "s1,s2"


@each(SERVICES)
def test_what_it_waits_for_can_come(service: Service) -> None:
    for name, condition in service.needs.items():
        other = SERVICES[name]
        assert not other.optional, f"{service.name} waits for {name}, which is not always started"
        if condition == "service_healthy":
            assert other.raw["healthcheck"].get("test"), f"{service.name} waits for {name}: no health check"
        else:
            assert condition == "service_completed_successfully"
            assert other.raw["restart"] == "on-failure", f"{name} would be started again after its end"
    assert not _reaches(service.name, service.name), f"{service.name} waits for itself"


def _reaches(start: str, goal: str) -> bool:
    waiting, seen = list(SERVICES[start].needs), set()
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            waiting += SERVICES[name].needs
    return False


@each(SERVICES)
def test_it_is_checked_restarted_bounded_and_has_few_rights(service: Service) -> None:
    raw = service.raw
    once = raw["restart"] == "on-failure"
    assert once or raw["restart"] == "unless-stopped"
    assert once == bool(raw["healthcheck"].get("disable"))
    assert bytes_of(raw["deploy"]["resources"]["limits"]["memory"]) > 0
    assert raw["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in raw["security_opt"]
    assert not raw.get("privileged")
    assert "network_mode" not in raw
    if service.name not in OWN_USER:
        assert raw["read_only"] is True
        assert service.ours or not raw["user"].startswith(("0", "root"))


@each(SERVICES)
def test_its_image_has_a_version(service: Service) -> None:
    name, _, tag = service.raw["image"].rpartition(":")
    assert name
    assert tag[0].isdigit() or tag[:2] == f"v{tag[1:2]}"
    assert any(letter.isdigit() for letter in tag)
    assert "latest" not in tag


@each(SERVICES)
def test_its_ports_are_on_loopback_only(service: Service) -> None:
    for port in service.raw.get("ports", []):
        assert str(port).startswith("127.0.0.1:"), f"{service.name}: {port}"


@each(OURS)
def test_it_has_time_to_stop(service: Service) -> None:
    if service.name in ("topics", "teach"):
        assert service.raw["restart"] == "on-failure"
        return
    assert service.raw["stop_signal"] == "SIGTERM"
    needed = Settings().drain_s
    if service.name == "worker":
        needed += STOP_WITHOUT_KAFKA_S
    assert seconds(service.raw["stop_grace_period"]) > needed


def test_redis_refuses_before_the_engine_ends_it() -> None:
    words = SERVICES["redis"].raw["command"]
    allowed = bytes_of(words[words.index("--maxmemory") + 1])
    # Twice: rewriting its file, it may hold a second copy of what changes.
    assert bytes_of(SERVICES["redis"].raw["deploy"]["resources"]["limits"]["memory"]) >= 2 * allowed
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"


def test_prometheus_asks_the_processes_where_they_answer() -> None:
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    asked: set[tuple[str, int]] = set()
    for job in config["scrape_configs"]:
        for found in job.get("static_configs", []):
            asked |= {(host, int(port)) for host, _, port in (t.rpartition(":") for t in found["targets"])}
        for found in job.get("dns_sd_configs", []):
            asked |= {(name, int(found["port"])) for name in found["names"]}
    answering = set()
    for service in OURS.values():
        if service.raw["restart"] == "unless-stopped":
            variable = "CROSSCHECK_BOARD" if service.name == "board" else "CROSSCHECK_METRICS"
            answering.add((service.name, int(str(service.environment[variable]).rpartition(":")[2])))
    assert {place for place in asked if place[0] != "127.0.0.1"} == answering


@each(OURS)
def test_its_health_check_asks_the_port_at_which_it_answers(service: Service) -> None:
    if service.raw["healthcheck"].get("disable"):
        return
    port = "8600" if service.name == "board" else "9100"
    assert f"http://127.0.0.1:{port}/health/ready" in service.raw["healthcheck"]["test"][-1]


def test_kafka_tells_containers_and_this_machine_each_their_own_address() -> None:
    environment = SERVICES["kafka"].environment
    advertised = dict(each.split("://") for each in str(environment["KAFKA_ADVERTISED_LISTENERS"]).split(","))
    assert advertised["INSIDE"] == OURS["worker"].environment["CROSSCHECK_KAFKA"]
    assert advertised["HOST"] == "127.0.0.1:${CROSSCHECK_KAFKA_PORT:-9092}"
    assert SERVICES["kafka"].raw["ports"] == ["127.0.0.1:${CROSSCHECK_KAFKA_PORT:-9092}:9092"]
