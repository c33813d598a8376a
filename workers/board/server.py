"""The board as a process: its threads, its web server, and an end that does not wait for browsers."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from types import FrameType

import structlog
import uvicorn
from prometheus_client.core import Metric as Family

from workers.board.app import Board
from workers.board.auth import Auth
from workers.board.connection import Protocol, end_readers_that_stand_still
from workers.board.events import Events
from workers.board.feed import Feed
from workers.board.folder import ReviewFolder
from workers.board.guard import Hosts
from workers.board.pictures import Pictures
from workers.board.review import Reviews
from workers.board.shadowing import Shadow
from workers.board.sinks import Kafka, Redis
from workers.board.state import State
from workers.board.tail import Tail
from workers.board.watch import Watch
from workers.clock import Clock, SystemClock
from workers.errors import SettingsError
from workers.pulse import Pulse
from workers.settings import Settings
from workers.telemetry import names
from workers.telemetry.assembly import Assembly
from workers.telemetry.families import family

log = structlog.get_logger(__name__)

HISTORY = 2_000
"""Records of each partition of the verdicts topic that a board reads from before its start."""
LABEL_HISTORY = 50_000
LETTER_HISTORY = 20
"""Of the dead letters: each may be as large as a frame."""
SEND_BYTES = 256 * 1024
STALL_S = 10.0
"""Without a turn of the event loop for so long the board counts as dead."""
END_S = 2.0
"""How long requests under way may take when the board ends."""


class BoardServer:
    """Serves the board until ``run`` is told to end.

    Args:
        settings: address, token, folder, names of topics.
        kafka, redis: need not answer yet.
        stations: those of the station map.

    Raises:
        SettingsError: the address cannot be listened at, or the token can be guessed.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: Kafka,
        redis: Redis,
        *,
        stations: Iterable[str] = (),
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        # An empty one is none: it is what an unset variable of a container comes as.
        token = settings.board_token.get_secret_value() if settings.board_token else None
        host, port = address_of(settings.board)
        self.feed = Feed(clock, stations)
        take = (
            ("verdicts", self.feed.take_verdict, HISTORY),
            ("labels", self.feed.take_label, LABEL_HISTORY),
            ("deadletter", self.feed.take_letter, LETTER_HISTORY),
        )
        self.tails = tuple(
            Tail(kafka.get, settings.topic(name), handler, history=history) for name, handler, history in take
        )
        self.watch = Watch(redis, self.feed.names, self.feed.workers)
        auth = Auth(token or None, clock)
        state = State(self.feed, self.watch, self.tails, self.tails[2], clock, auth.can_sign_in)
        self.events = Events(self.feed, state)
        self.pictures = Pictures(kafka, redis, settings.topic("frames"))
        self.reviews = Reviews(
            self.feed,
            kafka,
            redis,
            self.pictures,
            ReviewFolder(settings.review),
            topic=settings.topic("labels"),
            control=settings.topic("control"),
            clock=clock,
        )
        listed = [name.strip() for name in settings.board_hosts.split(",") if name.strip()]
        pulse = Pulse(STALL_S, clock)
        self._watched = Assembly("board", settings.metrics)
        self._watched.collect(self)
        self._watched.live("loop", pulse.trouble)
        self._watched.ready("kafka", lambda: self.tails[0].failure)
        self._watched.ready("redis", lambda: None if self.watch.seen.up else "redis does not answer")
        self.board = Board(
            feed=self.feed,
            state=state,
            events=self.events,
            pictures=self.pictures,
            reviews=self.reviews,
            shadow=Shadow(redis, self.feed.products, clock),
            auth=auth,
            clock=clock,
            hosts=Hosts([*listed, host]),
            registry=self._watched.registry,
            health=self._watched.health,
        )
        self._socket = _listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self.is_open = not _is_loopback(host)
        """Whether others than this machine reach it."""
        self.takes_labels = auth.can_sign_in
        """Whether there is a token to act with."""
        self._server = _Uvicorn(self.board, self.events, pulse)
        self._thread: threading.Thread | None = None

    def collect(self) -> Iterable[Family]:
        """The board's own metrics."""
        yield family(names.BOARD_CLIENTS, float(self.events.clients))
        yield family(names.BOARD_VERDICTS, float(self.feed.verdicts))

    @property
    def requests(self) -> int:
        """How many are under way."""
        return len(self._server.server_state.tasks)

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or ``stop``."""
        for tail in self.tails:
            tail.start()
        self.watch.start()
        try:
            with self._watched.served():
                self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def start(self) -> None:
        """Serve on a thread of its own; returns once requests are answered."""
        self._thread = threading.Thread(target=self.run, name="board", daemon=True)
        self._thread.start()
        self._server.begun.wait(10.0)

    def stop(self) -> None:
        """End it, from another thread; open streams are ended too."""
        self._server.end()
        if self._thread is not None:
            self._thread.join(10.0)

    def close(self) -> None:
        """End the threads and let go of the address; `run` does it at its end."""
        threads: tuple[Tail | Watch, ...] = (*self.tails, self.watch)
        for each in threads:
            each.stop()
        self._socket.close()
        for each in threads:
            each.join(END_S)
        self.pictures.close()
        self.reviews.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn, with an end that ends streams first and does not raise the signal again."""

    def __init__(self, board: Board, events: Events, pulse: Pulse) -> None:
        # Its own words about a request come beside ours, with a traceback.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                board.app(),
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=256,
                timeout_graceful_shutdown=round(END_S),
            )
        )
        self._events = events
        self._pulse = pulse
        self.begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    async def on_tick(self, counter: int) -> bool:
        self._pulse.turned()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    def end(self) -> None:
        """As a signal would."""
        self.should_exit = True


def address_of(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsError(f"CROSSCHECK_BOARD: {text!r}; write it as HOST:PORT, as 127.0.0.1:8600")
    return bare, int(port)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        made = socket.create_server((host, port), family=found[0][0], backlog=128)
    except OSError as error:
        # Python adds the address once more in its own words.
        why = (error.strerror or str(error)).partition(" (while ")[0]
        raise SettingsError(
            f"CROSSCHECK_BOARD: cannot listen at {host}:{port} ({why}); choose another address"
            " with --host and --port"
        ) from None
    # Every connection has it from here. What the kernel holds for a slow reader is old when it is read.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    end_readers_that_stand_still(made)
    return made


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
