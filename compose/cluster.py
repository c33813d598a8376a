"""A local cluster of several Kafka brokers (KRaft), to lose one and go on."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compose.kafka import COMMON, broker_answers, cluster_id, format_data, jvm, kafka_jars, write_properties
from compose.process import LocalServicesError, ServerProcess, free_ports

# Three JVMs that start at once on two busy cores take most of a minute.
START_TIMEOUT_S = 180.0
_HEAP_MB = 320
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _State:
    """What must stay the same while the data lives: the voters' addresses are part of it."""

    cluster: str
    ports: list[int]
    controllers: list[int]


class Cluster:
    """Brokers 1 to ``brokers`` on 127.0.0.1, each a controller too, data and logs in one folder.

    Each topic has as many replicas as there are brokers, a write needs all of them but one, and one that lags
    is never made leader: what was acknowledged survives the loss of any one broker.
    """

    def __init__(self, folder: Path | str, brokers: int = 3) -> None:
        if brokers < 1:
            raise LocalServicesError(f"a cluster of {brokers} brokers cannot be started: ask for 1 or more")
        self.folder = Path(folder).absolute()
        self.nodes = tuple(range(1, brokers + 1))
        self._known: _State | None = None

    @property
    def bootstrap(self) -> str:
        """host:port of every broker, comma-separated, as Kafka clients take it.

        Raises:
            LocalServicesError: it was never started.
        """
        return ",".join(f"127.0.0.1:{port}" for port in self._state().ports)

    def up(self, on_progress: Callable[[str], None] | None = None) -> str:
        """Start the brokers that do not run and wait until all of them serve; the bootstrap address.

        Raises:
            LocalServicesError: a broker did not start; the text ends with the tail of its log.
        """
        say = on_progress or (lambda _: None)
        libs = kafka_jars(say)
        for attempt in range(1, _ATTEMPTS + 1):
            fresh = self._load() is None
            if fresh:
                self._make(libs)
            try:
                missing = [node for node in self.nodes if self.pid(node) is None]
                say(f"starting {len(missing)} of {len(self.nodes)} Kafka brokers")
                for node in missing:
                    self._launch(node)
                for node in self.nodes:
                    self._wait_serving(node)
                self.wait_complete()
                return self.bootstrap
            except LocalServicesError as error:
                # Another program took a port between the look and the start.
                if not fresh or attempt == _ATTEMPTS or "in use" not in str(error):
                    raise
                self.down(delete=True)
        raise AssertionError("unreachable")

    def down(self, *, delete: bool = False) -> None:
        """Stop every broker; ``delete`` removes their data too."""
        if self._load() is not None:

            def stop(node: int) -> None:
                # A broker that cannot hand over its partitions, for the others stop too, waits in vain.
                self._process(node).kill() if delete else self._process(node).stop(10.0)

            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(stop, self.nodes))
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._known = None

    def kill(self, node: int) -> None:
        """End one broker at once, as a power cut would.

        Raises:
            LocalServicesError: there is no such broker.
        """
        self._process(node).kill()

    def start(self, node: int, *, wait: bool = True) -> None:
        """Bring one broker back on its port with its data; ``wait`` until all replicas are in sync again.

        Raises:
            LocalServicesError: there is no such broker, or it did not start.
        """
        if self.pid(node) is None:
            self._launch(node)
        self._wait_serving(node)
        if wait:
            self.wait_complete()

    def pid(self, node: int) -> int | None:
        """The pid of one broker; None while it does not run."""
        return self._process(node).pid()

    def answers(self, node: int) -> bool:
        """Whether one broker serves clients."""
        self._process(node)
        return broker_answers(self._state().ports[node - 1])

    def leader(self, topic: str, partition: int, timeout: float = 5.0) -> int:
        """The broker that leads a partition, or -1 while it has no leader.

        Raises:
            LocalServicesError: there is no such partition, nor does it come (new topics take a moment).
        """
        deadline = time.monotonic() + timeout
        while True:
            for found in self._partitions([topic]):
                if found["partition_index"] == partition:
                    return int(found["leader_id"])
            if time.monotonic() > deadline:
                raise LocalServicesError(
                    f"{topic}[{partition}] is not a partition of the cluster at {self.bootstrap}"
                )
            time.sleep(0.1)

    def wait_leader(self, topic: str, partition: int, *, not_node: int, timeout: float = 60.0) -> int:
        """Wait until another broker than ``not_node`` leads a partition; that broker.

        Raises:
            LocalServicesError: none did in time.
        """
        deadline = time.monotonic() + timeout
        while (now := self.leader(topic, partition)) in (-1, not_node):
            if time.monotonic() > deadline:
                raise LocalServicesError(
                    f"{topic}[{partition}] in {self.folder} has no leader but {now} after {timeout:g} s"
                )
            time.sleep(0.1)
        return now

    def wait_complete(self, timeout: float = START_TIMEOUT_S) -> None:
        """Wait until every broker is known to the cluster and every replica of every topic is in sync.

        Raises:
            LocalServicesError: it did not come to that in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            behind = self._behind()
            if not behind:
                return
            if time.monotonic() > deadline:
                raise LocalServicesError(f"the cluster in {self.folder} is not whole: {behind}")
            time.sleep(0.2)

    def _behind(self) -> str:
        """What keeps the cluster from being whole, in words; empty where nothing does."""
        try:
            with _admin(self._alive()) as admin:
                # `describe_cluster` names only brokers that serve and are not fenced.
                known = {int(each["broker_id"]) for each in admin.describe_cluster()["brokers"]}
                if missing := set(self.nodes) - known:
                    return f"brokers {sorted(missing)} have not joined"
                topics = admin.describe_topics()
        except _NoAnswerError as error:
            return f"no broker tells its state ({error})"
        lagging = [
            f"{topic['name']}[{each['partition_index']}]"
            for topic in topics
            for each in topic["partitions"]
            if len(each["isr_nodes"]) < len(each["replica_nodes"]) or each["leader_id"] < 0
        ]
        return f"replicas of {', '.join(lagging[:3])} lag behind" if lagging else ""

    def _partitions(self, topics: list[str], timeout: float = 20.0) -> list[dict[str, Any]]:
        deadline = time.monotonic() + timeout
        while True:
            try:
                with _admin(self._alive()) as admin:
                    return [each for topic in admin.describe_topics(topics) for each in topic["partitions"]]
            except _NoAnswerError as error:
                # The question may go to the broker that was just killed, until it is known to be gone.
                if time.monotonic() > deadline:
                    raise LocalServicesError(
                        f"the cluster at {self.bootstrap} does not tell its partitions: {error}"
                    ) from None
            time.sleep(0.2)

    def _alive(self) -> list[str]:
        """host:port of the brokers that run."""
        ports = self._state().ports
        return [f"127.0.0.1:{ports[node - 1]}" for node in self.nodes if self.pid(node) is not None]

    def _make(self, libs: Path) -> None:
        """Choose ports and format the data folders."""
        count = len(self.nodes)
        ports = free_ports(2 * count)
        state = _State(cluster_id(), ports[:count], ports[count:])
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known = state

        def prepare(node: int) -> None:
            write_properties(self._properties(node), self._settings(node))
            program = jvm(libs, _HEAP_MB)
            format_data(program, self._properties(node), self._data(node), ["-t", state.cluster])

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(prepare, self.nodes))
        # Last: a folder with this file is one that was formatted to the end.
        self._state_file.write_text(json.dumps(asdict(state)) + "\n")

    def _settings(self, node: int) -> dict[str, str]:
        state, count = self._state(), len(self.nodes)
        port, controller = state.ports[node - 1], state.controllers[node - 1]
        copies, least = str(count), str(max(1, count - 1))
        voters = (f"{each}@127.0.0.1:{state.controllers[each - 1]}" for each in self.nodes)
        return COMMON | {
            "node.id": str(node),
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._data(node)),
            "default.replication.factor": copies,
            "min.insync.replicas": least,
            "unclean.leader.election.enable": "false",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": least,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": least,
            # After this long without a heartbeat a broker is fenced, and others lead its partitions.
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "1000",
            "replica.lag.time.max.ms": "10000",
        }

    def _launch(self, node: int) -> None:
        process = self._process(node)
        process.stop()
        command = [*jvm(kafka_jars(lambda _: None), _HEAP_MB), "kafka.Kafka", str(self._properties(node))]
        process.start(command)

    def _wait_serving(self, node: int) -> None:
        self._process(node).wait_ready(lambda: self.answers(node), START_TIMEOUT_S)

    def _process(self, node: int) -> ServerProcess:
        if node not in self.nodes:
            raise LocalServicesError(
                f"the cluster in {self.folder} has no broker {node}: its are {self.nodes}"
            )
        return ServerProcess(f"kafka-{node}", self.folder, str(self._properties(node)))

    def _properties(self, node: int) -> Path:
        return self.folder / f"broker-{node}.properties"

    def _data(self, node: int) -> Path:
        return self.folder / f"data-{node}"

    @property
    def _state_file(self) -> Path:
        return self.folder / "cluster.json"

    def _state(self) -> _State:
        state = self._known or self._load()
        if state is None:
            raise LocalServicesError(f"no cluster was started in {self.folder}: call up() first")
        return state

    def _load(self) -> _State | None:
        try:
            state = _State(**json.loads(self._state_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise LocalServicesError(
                f"{self._state_file} cannot be read: stop the brokers by their pid files, delete the folder"
            ) from None
        if len(state.ports) != len(self.nodes):
            raise LocalServicesError(
                f"the cluster in {self.folder} has {len(state.ports)} brokers, not {len(self.nodes)}"
            )
        self._known = state
        return state


@contextlib.contextmanager
def _admin(addresses: list[str]) -> Iterator[Any]:
    """An admin client for one question: one that outlives the loss of a broker goes on asking it."""
    with warnings.catch_warnings():
        # kafka-python reads its schemas, while it is imported, by a function that Python wants gone.
        warnings.filterwarnings(
            "ignore", message="(read|open)_text is deprecated", category=DeprecationWarning
        )
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaConnectionError, KafkaError
    try:
        if not addresses:
            raise KafkaConnectionError("none of its brokers runs")
        client = KafkaAdminClient(
            bootstrap_servers=addresses, request_timeout_ms=10_000, bootstrap_timeout_ms=10_000
        )
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        raise _NoAnswerError(str(error)) from None


class _NoAnswerError(Exception):
    """No broker answered the question; another may, a moment later."""
