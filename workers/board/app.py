"""The board's addresses: what each answers. What takes time runs on threads, never on the event loop."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from schemas.errors import CrosscheckError, SchemaError
from schemas.label import MAX_BY, MAX_NOTE
from schemas.part import PartKey
from workers.board.auth import Auth, clear_cookie, same_origin, set_cookie
from workers.board.events import Events, Full
from workers.board.feed import Feed
from workers.board.guard import Guard, Hosts
from workers.board.pictures import Picture, Pictures, Reach, Reaches, colour_picture, depth_picture
from workers.board.reply import Refused, body_of, bytes_reply, json_reply, refusal, text_of
from workers.board.review import Reviews, said_of
from workers.board.shadowing import Shadow
from workers.board.state import State
from workers.clock import Clock
from workers.errors import ServiceError
from workers.telemetry.health import Health
from workers.telemetry.pages import PATHS, page
from workers.telemetry.registry import Registry

log = structlog.get_logger(__name__)

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

KEPT = "private, max-age=3600, immutable"
"""Of pictures: a part's images never change."""
MOST_LOOKING = 32
"""Requests that wait for images; one more is told to come again."""
MAX_TOKEN = 1_024


@dataclass(slots=True)
class Board:
    """Everything a request may need."""

    feed: Feed
    state: State
    events: Events
    pictures: Pictures
    reviews: Reviews
    shadow: Shadow
    auth: Auth
    clock: Clock
    hosts: Hosts
    registry: Registry
    health: Health
    reaches: Reaches = field(default_factory=Reaches)
    _looking: int = 0
    _fetching: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))
    _asking: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    # By itself: a service that hangs must not make the board look dead to whoever would start it again.
    _telling: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))

    def app(self) -> Guard:
        """The application, as a server runs it."""
        routes = [
            Route("/", self._page),
            Route("/static/{name}", self._static),
            Route("/api/state", self._state),
            Route("/api/events", self._events),
            Route("/api/scores", self._scores),
            Route("/api/series", self._series),
            Route("/api/shadow", self._shadow),
            Route("/api/review", self._waiting),
            Route("/api/review/{station}/{run}/{trigger}", self._label, methods=["POST"]),
            Route("/api/login", self._login, methods=["POST"]),
            Route("/api/logout", self._logout, methods=["POST"]),
            Route("/api/part/{station}/{run}/{trigger}", self._part),
            Route("/api/part/{station}/{run}/{trigger}/{picture}", self._picture),
            *(Route(path, self._telemetry) for path in PATHS),
        ]
        handlers: dict[Any, Any] = {
            Refused: _refused,
            HTTPException: _http,
            ServiceError: _away,
            ClientDisconnect: _left,
            Exception: _failed,
        }
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self.hosts)

    # The page

    async def _page(self, request: Request) -> Response:
        return _file("index.html")

    async def _static(self, request: Request) -> Response:
        return _file(request.path_params["name"])

    # What is shown

    async def _state(self, request: Request) -> Response:
        signed_in = self.auth.session_of(request) is not None
        return bytes_reply(await self._ask(lambda: self.state.body(signed_in)))

    async def _events(self, request: Request) -> Response:
        try:
            stream = self.events.stream(lambda: self.auth.session_of(request) is not None)
        except Full:
            raise Refused(503, "too many browsers watch this board already", retry_after_s=10) from None
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _scores(self, request: Request) -> Response:
        asked = request.query_params
        product, mode = asked.get("product", ""), asked.get("mode", "FUSED")
        station = asked.get("station") or None
        return json_reply(await self._ask(lambda: self.feed.scores_of(product, mode, station)))

    async def _series(self, request: Request) -> Response:
        station, now = request.query_params.get("station") or None, self.clock.now() / 1e9
        found = await self._ask(lambda: self.feed.series(now, station))
        if found is None:
            raise Refused(404, "no such station is known here")
        return json_reply(found)

    async def _shadow(self, request: Request) -> Response:
        return json_reply(await self._ask(self.shadow.body))

    async def _waiting(self, request: Request) -> Response:
        raw = request.query_params.get("limit", "50")
        if not (raw.isascii() and raw.isdecimal() and 1 <= int(raw[:6]) <= 500):
            raise Refused(400, "limit: expected a number from 1 to 500")
        waiting, rows = self.feed.waiting(int(raw))
        return json_reply({"waiting": waiting, "rows": rows})

    # Parts

    async def _part(self, request: Request) -> Response:
        part = _part_of(request)
        found = await self._ask(lambda: self.reviews.find(part))
        if found is None:
            raise Refused(404, f"part {part}: no verdict of it is known here any more")
        verdict, row = found
        images = await self._fetch(lambda: self.pictures.images(verdict))
        heat = await self._ask(lambda: _heatmap(self.pictures, part))
        reach = None
        if images.depth is not None:
            depth = images.depth
            # Of one that cannot be decoded asking for the picture says why.
            with contextlib.suppress(Refused):
                reach = await self._fetch(lambda: self.reaches.of(verdict, depth))
        facts = {
            "depth_reach": None if reach is None else reach.to_map(images.depth_scale),
            "rgb": images.rgb is not None,
            "depth": images.depth is not None,
            "heatmap": None if heat is None else heat[1],
        }
        return json_reply({"row": row, "images": facts, "why": images.why})

    async def _picture(self, request: Request) -> Response:
        part, name = _part_of(request), request.path_params["picture"]
        if name == "heatmap.png":
            heat = await self._ask(lambda: _heatmap(self.pictures, part))
            if heat is None:
                raise Refused(
                    404,
                    "Redis keeps no heatmap of this part: they are kept for ten minutes, and"
                    " by default only of parts that were not passed",
                )
            return _shown(heat[0])
        if name not in ("rgb", "depth.png"):
            raise Refused(404, "no such picture: ask for rgb, depth.png or heatmap.png")
        found = await self._ask(lambda: self.reviews.find(part))
        if found is None:
            raise Refused(404, f"part {part}: no verdict of it is known here any more")
        verdict = found[0]
        reach = _reach_of(request)

        def fetch() -> Picture | str:
            images = self.pictures.images(verdict)
            payload = images.rgb if name == "rgb" else images.depth
            if payload is None:
                return images.why or "this sensor gave no image of the part"
            return colour_picture(payload) if name == "rgb" else depth_picture(payload, reach)

        picture = await self._fetch(fetch)
        if isinstance(picture, str):
            raise Refused(404, picture)
        return _shown(picture)

    # Actions

    async def _login(self, request: Request) -> Response:
        same_origin(request)
        body = await body_of(request)
        token = text_of(body, "token", MAX_TOKEN)
        name = text_of(body, "name", MAX_BY, "").strip() or "operator"
        secret = await self.auth.sign_in(request, token, name)
        reply = json_reply({"signed_in": True, "name": name})
        set_cookie(request, reply, secret)
        return reply

    async def _logout(self, request: Request) -> Response:
        same_origin(request)
        self.auth.sign_out(request)
        reply = json_reply({"signed_in": False})
        clear_cookie(reply)
        return reply

    async def _label(self, request: Request) -> Response:
        by = await self.auth.require(request)
        part = _part_of(request)
        body = await body_of(request)
        said = said_of(body, by, text_of(body, "note", MAX_NOTE, ""))
        row, kept = await self._ask(lambda: self.reviews.say(part, said))
        self.state.changed()
        log.info("board.labelled", part=str(part), label=said.label.value, by=by, kept=kept.to_map())
        return json_reply({"row": row, "saved": kept.to_map()})

    async def _telemetry(self, request: Request) -> Response:
        accept = request.headers.get("accept")
        found = await anyio.to_thread.run_sync(
            lambda: page(request.url.path, self.registry, self.health, accept=accept), limiter=self._telling
        )
        return Response(found.body, found.status, headers={"content-type": found.content_type})

    # Threads

    async def _ask(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._asking)

    async def _fetch(self, work: Callable[[], T]) -> T:
        if self._looking >= MOST_LOOKING:
            raise Refused(503, "too many images are being fetched: come again in a moment", retry_after_s=1)
        self._looking += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._fetching)
        except SchemaError as error:
            raise Refused(404, f"the image cannot be shown: {error}") from None
        finally:
            self._looking -= 1


def _part_of(request: Request) -> PartKey:
    path = request.path_params
    try:
        return PartKey.parse(f"{path['station']}/{path['run']}/{path['trigger']}")
    except SchemaError:
        raise Refused(404, "no such part: a part is STATION/RUN/TRIGGER") from None


def _reach_of(request: Request) -> Reach | None:
    """The scale that a picture of depth is asked for on; None: its own. Raises Refused."""
    asked = [request.query_params.get(name) for name in ("near", "far")]
    if asked == [None, None]:
        return None
    numbers = [int(each) for each in asked if each and each.isascii() and each.isdecimal() and len(each) < 7]
    if len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise Refused(400, "near, far: expected two counts of the sensor, near under far")
    return Reach(*numbers)


def _heatmap(pictures: Pictures, part: PartKey) -> tuple[Picture, dict[str, Any]] | None:
    """The heatmap, where Redis has one that can be read; a part is shown without it too."""
    try:
        return pictures.heatmap(part)
    except (ServiceError, SchemaError):
        return None


def _shown(picture: Picture) -> Response:
    headers = {"cache-control": KEPT, "content-disposition": "inline"}
    return Response(picture.data, media_type=picture.media, headers=headers)


def _file(name: str) -> Response:
    """A file of the page. Only names of files that lie in the folder are found, whatever is asked for."""
    folder = resources.files("workers.board") / "static"
    held = {entry.name: entry for entry in folder.iterdir()} if folder.is_dir() else {}
    found = held.get(name)
    if found is None or not found.is_file():
        raise Refused(404, "no such file")
    kind = _KINDS.get(name.rpartition(".")[2]) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    # Asked again each time: a new release must not be mixed with the old one's scripts.
    return Response(found.read_bytes(), headers={"content-type": kind, "cache-control": "no-cache"})


_KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return json_reply({"error": error.detail}, error.status_code)


async def _away(request: Request, error: Exception) -> Response:
    assert isinstance(error, CrosscheckError)
    return json_reply({"error": f"a service is away: {error}"}, 503, retry_after="2")


async def _left(request: Request, error: Exception) -> Response:
    # A browser that goes away in the middle of a request is no failure, and nobody reads the answer.
    return json_reply({"error": "the client went away"}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("board.request_failed", path=request.url.path, exc_info=error)
    return json_reply({"error": "the board made a mistake: its log says which"}, 500)
