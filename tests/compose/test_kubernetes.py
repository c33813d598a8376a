"""The Kubernetes manifests: every overlay builds, keeps to its schemas, and refers to what is there."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.compose.containers import FOLDER, parse_command, unknown_variables
from tests.compose.custom_resources import SCALED_OBJECT, SCHEMAS
from workers.settings import Settings, load_settings
from workers.sizing import Line, Size
from workers.topics import StationMap

Resource = dict[str, Any]

KUBERNETES = FOLDER / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
OLDEST = "1.28"
# What a clean stop may take beyond ``drain_s`` while the broker is away (docs/delivery.md).
STOP_WITHOUT_KAFKA_S = 20.0

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT RUN: no kubectl here, so no overlay was built and no manifest was looked at",
)
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def built(overlay: str) -> tuple[Resource, ...]:
    """What ``kubectl apply -k`` would send; no cluster is asked."""
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def of_kind(overlay: str, kind: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def pods(overlay: str) -> Iterator[tuple[Resource, Resource]]:
    """(workload, its pod template)"""
    for each in built(overlay):
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each, each["spec"]["template"]


def containers(overlay: str) -> Iterator[tuple[str, Resource, Resource]]:
    """(name, container, pod template)"""
    for workload, pod in pods(overlay):
        for container in pod["spec"]["containers"]:
            yield f"{workload['metadata']['name']}/{container['name']}", container, pod


def environment(overlay: str, container: Resource) -> dict[str, str]:
    """The variables with a value that is written down."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return found | {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}


def matches(selector: Resource, labels: Resource) -> bool:
    return selector.items() <= labels.items()


def test_the_overlays_are_the_ones_that_are_described() -> None:
    assert OVERLAYS == ["cpu", "edge", "gpu", "monitored"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version().rpartition(".")[0]])
def test_every_native_resource_keeps_to_its_schema(version: str) -> None:
    # Overlays have most of theirs in common, and each look at a schema takes a tenth of a second.
    native = {json.dumps(each): each for overlay in OVERLAYS for each in built(overlay)}
    looked_at = [each for each in native.values() if each["kind"] not in SCHEMAS]
    assert {each["kind"] for each in looked_at} >= {"Deployment", "StatefulSet", "Job", "NetworkPolicy"}
    for each in looked_at:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelt_field_is_seen_by_that_check() -> None:
    spoilt = copy.deepcopy(of_kind("cpu", "Deployment")["crosscheck-worker"])
    spoilt["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, OLDEST, strict=True)


@overlays
def test_every_custom_resource_keeps_to_its_schema(overlay: str) -> None:
    for each in built(overlay):
        if each["kind"] in SCHEMAS:
            jsonschema.validate(each, SCHEMAS[each["kind"]])


def test_a_threshold_that_is_no_text_is_seen_by_that_check() -> None:
    spoilt = copy.deepcopy(of_kind("cpu", "ScaledObject")["crosscheck-worker"])
    spoilt["spec"]["triggers"][0]["metadata"]["lagThreshold"] = 50
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, SCALED_OBJECT)


@overlays
def test_commands_and_variables_are_ours(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, container, _ in containers(overlay):
        assert parse_command(container["args"]) == container["args"][0], name
        variables = environment(overlay, container)
        named = {each["name"]: "" for each in container.get("env", [])}
        assert unknown_variables(variables | named) == [], name
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            load_settings()


def test_the_example_of_a_secret_has_variables_of_ours_and_is_not_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = yaml.safe_load((KUBERNETES / "common" / "secret.example.yaml").read_text())
    kubernetes_validate.validate(example, OLDEST, strict=True)
    for name, value in example["stringData"].items():
        monkeypatch.setenv(name, value)
    load_settings()
    for overlay in OVERLAYS:
        assert not of_kind(overlay, "Secret")
        for name, container, _ in containers(overlay):
            secret = [s["secretRef"] for s in container["envFrom"] if "secretRef" in s]
            assert secret == [{"name": example["metadata"]["name"], "optional": True}], name


@overlays
def test_selectors_match_labels(overlay: str) -> None:
    templates = {w["metadata"]["name"]: p["metadata"]["labels"] for w, p in pods(overlay)}
    for workload, pod in pods(overlay):
        if workload["kind"] != "Job":
            assert matches(workload["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"])
            chosen = [
                n
                for n, labels in templates.items()
                if matches(workload["spec"]["selector"]["matchLabels"], labels)
            ]
            assert chosen == [workload["metadata"]["name"]]
        for spread in pod["spec"].get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"]["matchLabels"], pod["metadata"]["labels"])
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        for name, each in of_kind(overlay, kind).items():
            selector = _selector(each)
            if kind == "NetworkPolicy" and overlay == "edge" and name == "crosscheck-board":
                continue  # of the part that both share; no board stands at the edge
            assert any(matches(selector, labels) for labels in templates.values()), f"{kind} {name}"


def _selector(each: Resource) -> Resource:
    spec = each["spec"]
    if each["kind"] == "Service":
        return dict(spec["selector"])
    key = "podSelector" if each["kind"] == "NetworkPolicy" else "selector"
    return dict(spec[key].get("matchLabels", {}))


@overlays
def test_volumes_claims_maps_and_ports_are_there(overlay: str) -> None:
    claims, maps = of_kind(overlay, "PersistentVolumeClaim"), of_kind(overlay, "ConfigMap")
    for workload, pod in pods(overlay):
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        templates = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
        mounted = {m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]}
        assert mounted == set(volumes) | templates
        if workload["kind"] == "StatefulSet":
            assert workload["spec"]["serviceName"] in of_kind(overlay, "Service")
    ports = {p["name"] for _, c, _ in containers(overlay) for p in c.get("ports", [])}
    for service in of_kind(overlay, "Service").values():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for monitor in of_kind(overlay, "PodMonitor").values():
        asked = {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
        assert asked == ports | {"gate-metrics"}


@overlays
def test_a_process_is_asked_for_its_health_at_its_own_port(overlay: str) -> None:
    for name, container, pod in containers(overlay):
        if container["args"][0] == "topics":
            continue
        variables = environment(overlay, container)
        address = variables["CROSSCHECK_BOARD" if container["args"][0] == "board" else "CROSSCHECK_METRICS"]
        (port,) = container["ports"]
        assert port["containerPort"] == int(address.rpartition(":")[2]), name
        paths = {"startupProbe": "live", "livenessProbe": "live", "readinessProbe": "ready"}
        for probe, path in paths.items():
            assert container[probe]["httpGet"] == {"path": f"/health/{path}", "port": port["name"]}, name
        # A worker that stands still ends itself first, and says why.
        live = container["livenessProbe"]
        assert live["periodSeconds"] * live["failureThreshold"] > Settings().stall_s
        assert pod["spec"]["terminationGracePeriodSeconds"] > Settings().drain_s
        if container["args"][0] == "worker":
            stop = Settings().drain_s + STOP_WITHOUT_KAFKA_S
            assert pod["spec"]["terminationGracePeriodSeconds"] > stop


@overlays
def test_every_pod_keeps_to_the_restricted_profile(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, container, pod in containers(overlay):
        spec, security = pod["spec"], container["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all("hostPath" not in volume for volume in spec["volumes"]), name
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"]["cpu"], name
        assert ":latest" not in container["image"], name
        assert container["image"].startswith("crosscheck:0"), name


@overlays
def test_services_put_no_variables_into_pods(overlay: str) -> None:
    # CROSSCHECK_BOARD_PORT=tcp://... is no setting of ours, and a process refuses what it does not know.
    for _, pod in pods(overlay):
        assert pod["spec"]["enableServiceLinks"] is False


@overlays
def test_each_pod_may_reach_what_its_settings_name(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["crosscheck-nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, container, pod in containers(overlay):
        variables, labels = environment(overlay, container), pod["metadata"]["labels"]
        kafka_port = int(variables["CROSSCHECK_KAFKA"].rpartition(":")[2])
        assert kafka_port in _egress(policies, labels, "kafka"), name
        if container["args"][0] not in ("topics",):
            assert 6379 in _egress(policies, labels, "redis"), name


def _egress(policies: dict[str, Resource], labels: Resource, namespace: str) -> set[int]:
    found: set[int] = set()
    for policy in policies.values():
        if matches(_selector(policy), labels):
            for rule in policy["spec"].get("egress", []):
                names = [
                    each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                    for each in rule["to"]
                    if "namespaceSelector" in each
                ]
                if namespace in names:
                    found |= {port["port"] for port in rule["ports"]}
    return found


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "monitored"])
def test_workers_scale_by_the_lag_of_the_topic_and_group_they_read(overlay: str) -> None:
    (scaler,) = of_kind(overlay, "ScaledObject").values()
    spec = scaler["spec"]
    deployment = of_kind(overlay, "Deployment")[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"], "every apply would undo what the scaler decided"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = environment(overlay, container)
    trigger = spec["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == variables["CROSSCHECK_KAFKA"]
    assert trigger["consumerGroup"] == variables["CROSSCHECK_GROUP"]
    assert trigger["topic"] == f"{variables['CROSSCHECK_TOPIC_PREFIX']}.frames"
    # Where a group without an offset begins: our consumer begins there too.
    assert trigger["offsetResetPolicy"] == "earliest"
    assert spec["minReplicaCount"] >= 2
    # A worker without a partition is not ready: a rollout whose additional one got none would never end.
    partitions = _stations(overlay).partitions
    assert spec["maxReplicaCount"] == spec["fallback"]["replicas"]
    surge = of_kind("cpu", "Deployment")["crosscheck-worker"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    assert spec["maxReplicaCount"] + surge == partitions


def test_the_threshold_is_one_second_of_a_worker_s_work() -> None:
    (scaler,) = of_kind("cpu", "ScaledObject").values()
    (container,) = of_kind("cpu", "Deployment")["crosscheck-worker"]["spec"]["template"]["spec"]["containers"]
    plan = Size(Line(stations=8, cores=int(container["resources"]["requests"]["cpu"])))
    assert scaler["spec"]["triggers"][0]["metadata"]["lagThreshold"] == str(plan.lag_threshold)


def _stations(overlay: str) -> StationMap:
    found = [
        m for name, m in of_kind(overlay, "ConfigMap").items() if name.startswith("crosscheck-stations-")
    ]
    return StationMap.from_json(found[0]["data"]["stations.json"])


def test_the_topics_have_the_partitions_of_the_station_map() -> None:
    job = of_kind("cpu", "Job")["crosscheck-topics"]
    words = job["spec"]["template"]["spec"]["containers"][0]["args"]
    stations = words[words.index("--stations") + 1].split(",")
    assert _stations("cpu") == StationMap.balanced(stations)
    assert _stations("edge") == _stations("cpu")


def test_a_drain_takes_one_worker_at_a_time() -> None:
    budget = of_kind("cpu", "PodDisruptionBudget")["crosscheck-worker"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == of_kind("cpu", "Deployment")["crosscheck-worker"]["spec"]["selector"]


def test_a_gpu_overlay_asks_for_a_gpu_and_no_spare_one() -> None:
    spec = of_kind("gpu", "Deployment")["crosscheck-worker"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment("gpu", container)["CROSSCHECK_DEVICE"] == "cuda"
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "gpu" not in json.dumps(of_kind("gpu", "Deployment")["crosscheck-board"])


def test_the_gate_at_the_edge_is_one_beside_its_agent_on_its_own_computer() -> None:
    station = of_kind("edge", "StatefulSet")["crosscheck-station-s1"]["spec"]
    assert station["replicas"] == 1
    assert station["template"]["spec"]["nodeSelector"] == {"crosscheck/station": "s1"}
    agent, gate = (each["args"] for each in station["template"]["spec"]["containers"])
    assert agent[agent.index("--triggers") + 1] == gate[gate.index("--parts") + 1]
    assert agent[agent.index("--station") + 1] == gate[gate.index("--station") + 1] == "s1"
    assert "s1" in list(_stations("edge"))
