"""Which bundle judges which product: loaded beside the line, taken over between two batches.

The loop's thread owns an ``Activations``; only reading, checking and warming a bundle happen on another one,
which knows nothing but the bundle it is told to load. So there is nothing to lock, and no batch can see a
model that is not ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import structlog

from schemas.command import Command
from schemas.errors import CrosscheckError
from workers.clock import Clock, SystemClock
from workers.errors import RegistryError, SettingsError
from workers.models import Model
from workers.registry import Registry
from workers.registry.entry import version_order
from workers.serving.loading import Ready, loader
from workers.serving.served import ServedModels, short_name

log = structlog.get_logger(__name__)

LOOK_S = 10.0
"""Between two looks at the models folder for bundles that nobody has activated."""
RETRY_S = 15.0
"""After a first failure; twice as long after each further one, up to ``MAX_RETRY_S``."""
MAX_RETRY_S = 600.0
MAX_PRODUCTS = 1000
"""Products that commands may name; more are refused, so that no flood of names fills the memory."""
DONE, FAILED = "done", "failed"


@dataclass(slots=True)
class _Wish:
    """The bundle that a product is to have, and how the tries went."""

    command: Command
    again_at: float = 0.0
    pause: float = RETRY_S
    why: str = ""

    @property
    def bundle(self) -> str:
        return f"{self.command.product}/{self.command.value}"


@dataclass(slots=True)
class _Loading:
    wish: _Wish
    future: Future[Model]


@dataclass(slots=True)
class Activations:
    """Keeps the models in service at what was activated.

    Attributes:
        registry: where bundles are.
        ready: makes a warm model of a bundle's folder; called on another thread once the line runs.
        models: those in service.
        executor: runs one load at a time.
        scout: lists the models folder, which may be a slow one.
    """

    registry: Registry
    ready: Ready
    clock: Clock = field(default_factory=SystemClock)
    executor: Executor = field(default_factory=loader)
    scout: Executor = field(default_factory=loader)
    models: ServedModels = field(default_factory=ServedModels)
    _swaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    _wishes: dict[str, _Wish] = field(default_factory=dict)
    _loading: _Loading | None = None
    _look: Future[dict[str, str]] | None = None
    _look_at: float = 0.0
    _looked: bool = False
    _unloaded: dict[str, str] = field(default_factory=dict)

    # Before the line runs.

    def begin(self, commands: Iterable[Command]) -> None:
        """Load what is to judge from the start: what was activated, else each product's highest version.

        A product whose activated bundle cannot be had comes up with the one that was active before it, or is
        not judged at all until it can: never with a version that nobody chose.

        Args:
            commands: ACTIVATE commands, the newest of a product last.

        Raises:
            SettingsError: there is nothing at all to judge by.
            BundleError: the highest version of a product that was never activated is refused.
        """
        for command in commands:
            self._wish(command)
        for wish in self._wishes.values():
            self._begin_with(wish)
        for product, version in self._highest().items():
            if product not in self._wishes:
                self.models.take_over(self.ready(self.registry.fetch(product, version)))
        if not self.models.products and not self._wishes:
            raise SettingsError(
                f"models folder {self.registry.folder} and its store: no PRODUCT/VERSION/manifest.json in"
                " them; `crosscheck models push` puts a bundle into the store"
            )

    def catch_up(self, commands: Iterable[Command]) -> None:
        """Load what was asked for since ``begin``; what cannot be had leaves the bundle that is there.

        Args:
            commands: as for ``begin``.
        """
        for command in commands:
            self._wish(command)
            wish = self._wishes.get(command.product or "")
            if wish is None or wish.command is not command or self._judges(wish):
                continue
            if self._bundle_of(command.product or "") is None:
                self._begin_with(wish)
                continue
            try:
                model = self._ready(command.product or "", command.value or "", command.digest)
            except Exception as error:  # one product's bundle: the others are judged all the same
                self._failed(wish, error)
            else:
                self.models.take_over(model)

    def _begin_with(self, wish: _Wish) -> None:
        product = wish.command.product or ""
        for version in (wish.command.value or "", *wish.command.previous):
            asked = version == wish.command.value
            try:
                self.models.take_over(self._ready(product, version, wish.command.digest if asked else None))
            except Exception as error:  # one product's bundle: the others are judged all the same
                if asked:
                    self._failed(wish, error)
                else:
                    log.error("worker.previous_not_loaded", bundle=f"{product}/{version}", why=_why(error))
            else:
                if not asked:
                    log.error("worker.previous_serves", bundle=f"{product}/{version}", asked=wish.bundle)
                return
        log.error("worker.product_not_judged", product=product, asked=wish.bundle)

    def _highest(self) -> dict[str, str]:
        try:
            return self.registry.highest()
        except RegistryError as error:
            # What lies here is enough to begin; what was activated is fetched when the store is back.
            log.error("worker.store_away", error=str(error))
            return self.registry.here()

    # While it runs, on the loop's thread.

    def want(self, command: Command) -> None:
        """Have this bundle judge its product as soon as it is loaded and warm."""
        self._wish(command)

    def turn(self) -> bool:
        """Between two batches: take over what is ready, begin to load what is asked for. Never waits.

        Returns:
            Whether another bundle judges now, or one was refused.
        """
        changed = False
        if self._loading is not None and self._loading.future.done():
            loading, self._loading = self._loading, None
            changed = self._ended(loading)
        if self._loading is None:
            changed = self._next() or changed
        self._look_for_new()
        return changed

    def _look_for_new(self) -> None:
        """Say once which bundles lie in the folder, newer than what judges, that nobody has activated."""
        now = self.clock.monotonic()
        if self._look is not None and self._look.done():
            found, self._look = self._look, None
            if found.exception() is None:  # a folder that cannot be read now is looked at again
                self._new_here(found.result())
        if self._look is None and self._loading is None and now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look = self.scout.submit(self.registry.here)

    def _new_here(self, here: Mapping[str, str]) -> None:
        first, self._looked = not self._looked, True  # those that lay there at the start were left on purpose
        serving = {one.product: one.bundle.partition("/")[2] for one in self.models.served}
        for product, version in here.items():
            active = serving.get(product)
            wish = self._wishes.get(product)
            asked = None if wish is None else wish.command.value
            older = active is not None and version_order(version) <= version_order(active)
            if self._unloaded.get(product) == version:
                continue
            self._unloaded[product] = version
            if first or older or version in (active, asked):
                continue
            log.warning(
                "worker.bundle_not_loaded",
                bundle=f"{product}/{version}",
                serves=self._bundle_of(product),
                fix=f"nothing judges by it until `crosscheck models activate {product} {version}`",
            )

    def _next(self) -> bool:
        """Begin with the next bundle that is asked for; whether one turned out to judge already."""
        now, same = self.clock.monotonic(), False
        for wish in self._wishes.values():
            if wish.again_at > now:
                continue
            command = wish.command
            if self._judges(wish):
                same = bool(wish.why) or same
                self._settled(wish)
                continue
            log.info("worker.bundle_loading", bundle=wish.bundle, command=command.id)
            self._loading = _Loading(
                wish,
                self.executor.submit(self._ready, command.product or "", command.value or "", command.digest),
            )
            break
        return same

    def _ended(self, loading: _Loading) -> bool:
        wish = loading.wish
        current = self._wishes.get(wish.command.product or "")
        if current is not wish:
            log.info("worker.bundle_superseded", bundle=wish.bundle, command=wish.command.id)
            return False
        error = loading.future.exception()
        if error is not None:
            self._failed(wish, error)
            return True
        model = loading.future.result()
        before = self._bundle_of(wish.command.product or "")
        self.models.take_over(model)
        self._swaps[wish.command.product or "", DONE] += 1
        self._settled(wish)
        log.info(
            "worker.bundle_active",
            bundle=short_name(model.bundle_id, model.bundle_hash),
            before=before,
            command=wish.command.id,
        )
        return True

    def _ready(self, product: str, version: str, digest: str | None) -> Model:
        # On the loading thread: it touches neither wishes nor models.
        return self.ready(self.registry.fetch(product, version, digest))

    def _wish(self, command: Command) -> None:
        product = command.product or ""
        if product not in self._wishes and len(self._wishes) >= MAX_PRODUCTS:
            log.error("worker.activation_ignored", product=product, why=f"{MAX_PRODUCTS} products are enough")
            return
        self._wishes[product] = _Wish(command)

    def _judges(self, wish: _Wish) -> bool:
        """Whether the bundle that is asked for is the one in service."""
        digest = wish.command.digest
        return any(
            one.bundle == wish.bundle and (digest is None or one.digest == digest)
            for one in self.models.served
        )

    @staticmethod
    def _settled(wish: _Wish) -> None:
        wish.again_at, wish.why = float("inf"), ""

    def _failed(self, wish: _Wish, error: BaseException) -> None:
        product = wish.command.product or ""
        if not wish.why:
            self._swaps[product, FAILED] += 1
        if _why(error) != wish.why:
            log.error(
                "worker.bundle_refused",
                bundle=wish.bundle,
                command=wish.command.id,
                active=self._bundle_of(product),
                why=_why(error),
            )
        wish.why = _why(error)
        # It may be copied here, or the store may come back.
        wish.again_at = self.clock.monotonic() + wish.pause
        wish.pause = min(2 * wish.pause, MAX_RETRY_S)

    def _bundle_of(self, product: str) -> str | None:
        return next((one.short for one in self.models.served if one.product == product), None)

    # What it says of itself; may be asked from any thread.

    @property
    def swaps(self) -> Mapping[tuple[str, str], int]:
        """Bundles asked for since the start, by product and by how that ended: "done" or "failed"."""
        return dict(self._swaps)

    @property
    def refused(self) -> tuple[str, ...]:
        """What was asked for and does not judge, "NAME/VERSION: why"."""
        return tuple(f"{wish.bundle}: {wish.why}" for wish in list(self._wishes.values()) if wish.why)

    def close(self) -> None:
        """Let go of the loading thread. A download ends at once; a bundle that warms ends when it is warm."""
        self.registry.close()
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.scout.shutdown(wait=False, cancel_futures=True)


def _why(error: BaseException) -> str:
    """One line: of our own errors what they say, of others their kind too."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, CrosscheckError) else f"{type(error).__name__}: {text}"
