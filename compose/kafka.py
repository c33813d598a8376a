"""A local single-node Apache Kafka (KRaft) from the jars that Maven resolves."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compose.process import LocalServicesError, ServerProcess, ask

KAFKA_VERSION = "4.1.1"
# Above the largest record of the bus (16 MiB and its headers), with room for the batch around it.
MESSAGE_MAX_BYTES = 17 * 2**20

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>crosscheck</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{version}</version></dependency>
    <!-- Holds the StorageTool that formats the data folder. -->
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{version}</version></dependency>
    <!-- Without a binding the broker logs nothing at all. -->
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

# What the servers have in common; ports, folders and counts of replicas are each server's own.
COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "message.max.bytes": str(MESSAGE_MAX_BYTES),
    "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "10",
    "group.min.session.timeout.ms": "6000",
    "log.retention.check.interval.ms": "10000",
}


def cache_folder() -> Path:
    """Where the jars are kept for all projects of this user: $CROSSCHECK_CACHE or ~/.cache/crosscheck."""
    return Path(os.environ.get("CROSSCHECK_CACHE") or Path.home() / ".cache" / "crosscheck")


def java() -> str:
    """The java to run.

    Raises:
        LocalServicesError: there is none.
    """
    found = shutil.which("java")
    if found is None:
        raise LocalServicesError(
            "Kafka needs Java 17 or later, or Docker, and this machine has neither: install one of them"
            " (Debian: `apt install openjdk-17-jre-headless maven`)"
        )
    return found


def kafka_jars(progress: Callable[[str], None]) -> Path:
    """The folder of the broker's jars; Maven fetches them once, about 55 MB.

    Raises:
        LocalServicesError: there is no Maven, or it could not fetch them.
    """
    home = cache_folder() / f"kafka-{KAFKA_VERSION}"
    libs = home / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalServicesError(
            "the first start of Kafka needs Maven to fetch its jars: install it"
            " (Debian: `apt install maven`) or start Docker"
        )
    progress(f"fetching Apache Kafka {KAFKA_VERSION} with Maven (once, about 55 MB)")
    # Into a folder of this process, then renamed: a fetch cut short, or two at once, leave nothing half done.
    work = home / f"fetch-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    try:
        (work / "pom.xml").write_text(_POM.format(version=KAFKA_VERSION))
        goal = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'libs'}"]
        done = subprocess.run(goal, cwd=work, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0 or not any((work / "libs").glob("kafka_2.13-*.jar")):
            tail = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-8:])
            raise LocalServicesError(f"Maven could not fetch Kafka {KAFKA_VERSION}; it said:\n{tail}")
        try:
            (work / "libs").rename(libs)
        except OSError:
            if not libs.is_dir():
                raise
    except subprocess.TimeoutExpired:
        raise LocalServicesError("Maven did not fetch Kafka within 10 minutes: is the network up?") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return libs


class KafkaServer:
    """One Kafka broker on 127.0.0.1, its data in ``folder``.

    Args:
        folder: holds the data, the log and the pid.
        port: where clients reach it.
        controller_port: where the controller listens.
        advertised: the host:port that clients are told, if a TCP proxy stands in front; needs
            ``internal_port``, by which the broker reaches itself and tests reach it past the proxy.
        internal_port: a second listener, always plain and on loopback.
        extra: more lines of the server's properties, which win over those written here.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        controller_port: int,
        *,
        advertised: str | None = None,
        internal_port: int | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        if advertised is not None and internal_port is None:
            raise LocalServicesError("a broker with an advertised address needs an internal port as well")
        self.port = port
        self.controller_port = controller_port
        self.advertised = advertised
        self.internal_port = internal_port
        self.extra = dict(extra or {})
        self.properties = folder / "server.properties"
        self.data = folder / "kafka-data"
        self.process = ServerProcess("kafka", folder, str(self.properties))

    def start(self, progress: Callable[[str], None], timeout: float = 60.0) -> None:
        """Format the data folder if it is new, start, and wait until the broker answers."""
        program = jvm(kafka_jars(progress), 512)
        write_properties(self.properties, self._settings())
        if not (self.data / "meta.properties").exists():
            format_data(program, self.properties, self.data, ["--standalone", "-t", cluster_id()])
        self.process.start([*program, "kafka.Kafka", str(self.properties)])
        self.process.wait_ready(self.ready, timeout)

    def ready(self) -> bool:
        """Whether the broker serves clients."""
        return broker_answers(self.internal_port or self.port)

    def _settings(self) -> dict[str, str]:
        listeners = {"PLAINTEXT": (self.port, self.advertised or f"127.0.0.1:{self.port}")}
        if self.internal_port is not None:
            listeners["INTERNAL"] = (self.internal_port, f"127.0.0.1:{self.internal_port}")
        opened = [f"{name}://127.0.0.1:{port}" for name, (port, _) in listeners.items()]
        settings = {
            **COMMON,
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "listeners": ",".join([*opened, f"CONTROLLER://127.0.0.1:{self.controller_port}"]),
            "advertised.listeners": ",".join(f"{name}://{told}" for name, (_, told) in listeners.items()),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT" if self.internal_port is None else "INTERNAL",
            "log.dirs": str(self.data),
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        return settings | self.extra


def jvm(libs: Path, heap_mb: int) -> list[str]:
    """The words that start Java for a program of these jars."""
    return [
        java(),
        f"-Xmx{heap_mb}m",
        "-Xms128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        f"{libs}/*",
    ]


def write_properties(path: Path, settings: Mapping[str, str]) -> None:
    """A server's properties file; only its owner may read it, for it may hold passwords."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def format_data(program: Sequence[str], properties: Path, data: Path, options: Sequence[str]) -> None:
    """Make the data folder of a new server.

    Raises:
        LocalServicesError: the storage tool refused; the text is what it said.
    """
    tool = [*program, "kafka.tools.StorageTool", "format", *options, "-c", str(properties)]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise LocalServicesError(f"Kafka's data folder {data} could not be formatted:\n{said}")


def cluster_id() -> str:
    """16 random bytes in Kafka's base64; the storage tool takes a leading '-' for an option."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def broker_answers(port: int) -> bool:
    """Whether a Kafka broker on 127.0.0.1 answers an ApiVersions request (key 18, version 0) without error.

    A KRaft broker opens its port early but answers only once it has registered with the controller.
    """
    client = b"crosscheck"
    request = struct.pack(f">hhih{len(client)}s", 18, 0, 7, len(client), client)
    answer = ask(port, struct.pack(">i", len(request)) + request, 10)
    # Size (4 bytes), correlation id (4), error code (2).
    return len(answer) == 10 and struct.unpack(">ih", answer[4:]) == (7, 0)
