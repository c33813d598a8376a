"""A broker that allows smaller records than we ask for, as managed ones do: said in words, and lived with."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from compose.kafka import KafkaServer, kafka_jars
from compose.process import free_ports
from schemas.payload import ColourEncoding
from schemas.wire import decode_capture
from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import KafkaBus
from workers.capture import Publisher
from workers.cli import main
from workers.errors import BusError, RecordTooLarge
from workers.topics import StationMap

pytestmark = pytest.mark.services

ALLOWED = 2**20
_POLICY = """
import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;
import org.apache.kafka.server.policy.CreateTopicPolicy;

public class Managed implements CreateTopicPolicy, AlterConfigPolicy {
    public void configure(Map<String, ?> configs) {}
    public void close() {}
    public void validate(CreateTopicPolicy.RequestMetadata asked) { look(asked.configs()); }
    public void validate(AlterConfigPolicy.RequestMetadata asked) { look(asked.configs()); }
    private void look(Map<String, String> configs) {
        String found = configs.get("max.message.bytes");
        if (found != null && Long.parseLong(found) > ALLOWED)
            throw new PolicyViolationException("at most ALLOWED bytes a message on this plan");
    }
}
""".replace("ALLOWED", str(ALLOWED))


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker with a policy of its own."""
    compiler = shutil.which("javac")
    if compiler is None:
        pytest.skip("javac compiles this broker's policy: install a JDK (Debian: openjdk-17-jdk-headless)")
    folder = tmp_path_factory.mktemp("managed")
    (folder / "Managed.java").write_text(_POLICY)
    jars = kafka_jars(lambda _: None)
    libs = folder / "libs"
    libs.mkdir()
    for jar in jars.glob("*.jar"):
        (libs / jar.name).symlink_to(jar)
    subprocess.run(
        [compiler, "-cp", f"{jars}/*", "-d", str(folder), str(folder / "Managed.java")],
        check=True,
        timeout=120,
    )
    with zipfile.ZipFile(libs / "managed.jar", "w") as packed:
        packed.write(folder / "Managed.class", "Managed.class")
    port, controller = free_ports(2)
    extra = {"create.topic.policy.class.name": "Managed", "alter.config.policy.class.name": "Managed"}
    server = KafkaServer(folder, port, controller, extra=extra)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compose.kafka.kafka_jars", lambda _: libs)
        try:
            server.start(lambda _: None)
            yield f"127.0.0.1:{port}"
        finally:
            server.process.kill()


@pytest.fixture
def topics(managed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KafkaBus]:
    """`crosscheck topics` and a bus would find this broker here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSCHECK_KAFKA", managed)
    bus = KafkaBus(managed)
    yield bus
    bus.close()


def run_topics(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["crosscheck", "topics"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capfd.readouterr()
    return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())


def test_topics_that_the_broker_will_not_take_are_said_with_its_words_and_the_setting(
    topics: KafkaBus, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCHECK_TOPIC_PREFIX", "refused")
    code, said = run_topics(capfd, monkeypatch)
    assert code == 3
    assert "Traceback" not in said
    for part in ("refused.frames", f"at most {ALLOWED} bytes a message", "CROSSCHECK_MAX_RECORD_BYTES"):
        assert part in said, said


def test_a_topic_that_is_there_and_may_not_be_set_so_is_said_too(topics: KafkaBus) -> None:
    topics.ensure_topics({"there": TopicSpec(partitions=1, max_message_bytes=500_000)})
    with pytest.raises(BusError, match=rf"there at .*at most {ALLOWED} bytes.*CROSSCHECK_MAX_RECORD_BYTES"):
        topics.ensure_topics({"there": TopicSpec(partitions=1)})
    assert topics.largest_record("there") == 500_000


def test_with_the_brokers_limit_topics_are_made_and_an_agent_keeps_it(
    topics: KafkaBus, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCHECK_TOPIC_PREFIX", "kept")
    monkeypatch.setenv("CROSSCHECK_MAX_RECORD_BYTES", str(ALLOWED))
    code, said = run_topics(capfd, monkeypatch)
    assert code == 0, said
    noise = np.random.default_rng(0)
    with (
        capture_logs() as logged,
        Publisher(
            topics,
            station="s1",
            product="cap",
            station_map=StationMap({"s1": 0}),
            topic="kept.frames",
            colour=ColourEncoding.RAW,
        ) as publisher,
    ):
        # Raw, so that sizes are known: 80 KiB of the broker's limit are for what is around a frame.
        fits, over = (noise.integers(0, 255, (500, width, 3), dtype=np.uint8) for width in (640, 660))
        publisher.publish(publisher.next_part(), rgb=fits).wait(10)
        part = publisher.next_part()
        with pytest.raises(RecordTooLarge, match=r"topic kept\.frames"):
            publisher.publish(part, rgb=over).wait(0)
        publisher.flush(10)
        assert (publisher.published, publisher.failed, publisher.notices) == (1, 1, 1)
    limit = next(entry for entry in logged if entry["event"] == "capture_topic_limit")
    assert limit["topic_takes"] == ALLOWED
    reader = topics.consumer(None)
    place = TopicPartition("kept.frames", 0)
    reader.assign({place})
    reader.seek(place, 0)
    kinds: list[str] = []
    while len(kinds) < 2:
        kinds += [type(decode_capture(record.value)).__name__ for record in reader.poll(5.0)]
    assert kinds == ["Frame", "Notice"]
