"""``crosscheck board``: the line in a browser, until it is told to stop."""

from __future__ import annotations

import structlog

from workers.board.server import BoardServer
from workers.board.sinks import Kafka, Redis, Sink
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.logs import configure_logs
from workers.settings import Settings
from workers.topics import StationMap

log = structlog.get_logger(__name__)


def run_board(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Kafka and Redis may come later: the page says which is away.

    Raises:
        SettingsError: the address cannot be listened at, the token can be guessed, or a wrong station map.
    """
    configure_logs(settings.log)
    stations = () if settings.stations is None else tuple(StationMap.load(settings.stations))
    kafka: Kafka = Sink(lambda: open_bus(settings))
    redis: Redis = Sink(lambda: open_store(settings))
    server = BoardServer(settings, kafka, redis, stations=stations)
    if server.is_open:
        log.warning(
            "board.reachable",
            at=settings.board,
            why="others than this machine reach it without TLS: put it behind a proxy that has it",
        )
    acting = "sign in with the token to act" if server.takes_labels else "read-only: no token is set"
    console.out.print(f"board: {server.url} ({acting})", soft_wrap=True)
    try:
        server.run()
    finally:
        bus = kafka.made()
        if bus is not None:
            bus.close()
