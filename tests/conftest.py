"""What all tests share: a real Kafka and a real Redis, and that each leaves the process as it found it."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, is_hypothesis_test, settings

from compose.services import Services
from tests import workers_of_pytest
from tests.leftovers import PATIENCE_S, Held, Leftovers, adopt_orphans, held, remember_starters
from tests.workers_of_pytest import SHARED

# How long an example takes, or drawing it, is the machine's matter, not the test's.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_topics = itertools.count()
_leftovers = Leftovers()
# In these folders whatever a test leaves fails it; what tests of the others leave is listed at the end.
_STRICT = ("schemas", "contract", "workers/tracing", "workers/drift", "workers/reference")
# pytest's own, and those of whatever plugin is in use: they were there before any test.
_at_start: frozenset[threading.Thread] = frozenset()


def pytest_configure(config: pytest.Config) -> None:
    """Tests may be run by several workers."""
    config.pluginmanager.register(workers_of_pytest)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Processes that a test's own process starts, and that outlive it, are found as well."""
    global _at_start
    _at_start = held().threads
    adopt_orphans()
    remember_starters()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with property tests come first, and in each of them the property tests."""
    drawing = {item.path for item in items if _draws(item)}
    items.sort(key=lambda item: (item.path not in drawing, item.path in drawing and not _draws(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What the imports made stays: it need not be looked through whenever garbage is collected."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """As it was: libraries look at the end for what nobody freed."""
    gc.unfreeze()


def _draws(item: pytest.Item) -> bool:
    return is_hypothesis_test(getattr(item, "obj", None))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What a fixture of a module or of the session makes may stay until it is torn down."""
    before = held()
    try:
        return (yield)
    finally:
        if fixturedef.scope != "function":
            _leftovers.made(fixturedef.scope, held() - before)


@pytest.fixture(scope="session", autouse=True)
def _all_leave_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _nothing_left("session", request, "the session's fixtures")


@pytest.fixture(scope="module", autouse=True)
def _fixtures_leave_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _nothing_left("module", request, f"the fixtures of {request.node.nodeid}")


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """A thread, process or socket that a test leaves fails this test, not a later one that it disturbs."""
    if _draws(request.node):
        beside = held().threads - _at_start
        assert not beside, f"a property test beside {beside}: whatever uses `random` there changes its draws"
    yield from _nothing_left("function", request, request.node.nodeid, request.node.funcargs)


def _nothing_left(
    scope: str, request: pytest.FixtureRequest, who: str, arguments: dict[str, object] | None = None
) -> Iterator[None]:
    before = held()
    yield
    # Fixtures of the test are torn down; pytest itself would hold what they gave a little longer.
    if arguments is not None:
        arguments.clear()
    file = request.node.nodeid.partition("::")[0]
    strict = scope != "session" and any(file.startswith(f"tests/{folder}/") for folder in _STRICT)
    left = _leftovers.after(before, scope, PATIENCE_S if strict else 0.0)
    if left and strict:
        pytest.fail("\n  ".join([f"{who} left behind:", *left]), pytrace=False)
    elif left and isinstance(request.node, pytest.Item):
        request.node.user_properties.append(("left", (who, left)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests of the other folders have left: it may disturb a later one."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    said = [
        value
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == "left"
    ]
    if said:
        terminalreporter.section("left behind")
    for who, left in said:
        terminalreporter.write_line("\n  ".join([who, *left]))


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command run in this process sends the logs to a standard error that ends with its test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one run of tests have in common."""
    worker: dict[str, Any] | None = getattr(request.config, "workerinput", None)
    return Path(worker[SHARED]) if worker else tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest, shared: Path) -> Iterator[Services]:
    """The services of this run, in a folder of their own; stopped at its end, whatever happened."""
    running = Services(shared / "services")
    is_worker = hasattr(request.config, "workerinput")
    try:
        # Whichever worker comes first starts them; the others wait for its lock, and find them running.
        running.up()
        if is_worker:
            _leftovers.made("run", Held(children=frozenset(running.pids().values())))
        yield running
    finally:
        if not is_worker:
            running.down()


@pytest.fixture(scope="session")
def kafka_bootstrap(services: Services) -> str:
    """host:port of the real Kafka."""
    endpoints = services.status().endpoints
    assert endpoints is not None
    return endpoints.kafka


@pytest.fixture(scope="session")
def redis_url(services: Services) -> str:
    """URL of the real Redis."""
    endpoints = services.status().endpoints
    assert endpoints is not None
    return endpoints.redis_url


@pytest.fixture
def kafka_topic() -> str:
    """A topic name that no other test uses; the test makes the topic."""
    return f"test-{os.getpid()}-{time.time_ns()}-{next(_topics)}"
