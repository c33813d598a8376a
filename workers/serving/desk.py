"""The operator's side of the control topic: what holds, who serves it, and how a command is put there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.command import MAX_PREVIOUS, Action, Command, ThresholdSetting
from schemas.errors import SchemaError
from schemas.verdict import Mode
from schemas.wire import decode_command, encode
from workers.bus.base import Bus
from workers.errors import SettingsError
from workers.scan import records
from workers.steps.control import MAX_COMMAND_BYTES
from workers.store.verdicts import VerdictStore

SEND_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InService:
    """What the control topic says now.

    Attributes:
        activated: the newest ACTIVATE of each product.
        thresholds: the newest setting of each product and mode; those that were taken back are left out.
    """

    activated: Mapping[str, Command]
    thresholds: Mapping[tuple[str, Mode], ThresholdSetting]


def in_service(bus: Bus, topic: str) -> InService:
    """Read the control topic to its end.

    Raises:
        BusError: there is no such topic, or the broker does not answer.
    """
    activated: dict[str, Command] = {}
    thresholds: dict[tuple[str, Mode], ThresholdSetting] = {}
    for record in records(bus, topic):
        try:
            command = decode_command(record.value, MAX_COMMAND_BYTES)
            product = command.product or ""
            if command.action is Action.ACTIVATE:
                activated[product] = command
            elif command.action is Action.THRESHOLD:
                setting = ThresholdSetting.parse(command.value or "")
                if setting.number is None:
                    thresholds.pop((product, setting.mode), None)
                else:
                    thresholds[product, setting.mode] = setting
        except SchemaError:
            continue  # the workers do nothing either, and log it
    return InService(activated=activated, thresholds=thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """What a worker's last heartbeat says.

    Attributes:
        bundles: NAME/VERSION@HASH of each bundle it judges by.
        refused: by NAME/VERSION, why it does not serve what it was told to.
        at: when, nanoseconds since the epoch by its clock.
    """

    worker: str
    bundles: tuple[str, ...]
    refused: Mapping[str, str]
    at: int

    def serves(self, bundle: str) -> bool:
        """Whether it judges by NAME/VERSION, or NAME/VERSION@HASH where that is asked for."""
        return any(one == bundle or one.partition("@")[0] == bundle for one in self.bundles)


def workers_say(store: VerdictStore, line: str) -> list[Says]:
    """Every worker of a line whose heartbeat is fresh, by name.

    Args:
        line: prefix of its topics. Workers of another line in the same Redis hear other commands.

    Raises:
        StoreError: Redis does not answer.
    """
    found = []
    for name in store.workers():
        beat = store.worker(name)
        if beat and beat.get("line", line) == line:
            pairs = [line.partition(": ") for line in beat.get("refused", "").split("\n") if line]
            found.append(
                Says(
                    worker=name,
                    bundles=tuple(filter(None, beat.get("bundles", "").split(","))),
                    refused={bundle: why for bundle, _, why in pairs},
                    at=int(beat.get("at", "0")),
                )
            )
    return found


def activation(
    product: str, version: str, digest: str | None, before: Command | None, active: str | None
) -> Command:
    """The command that activates a version, with what was active before it for a rollback.

    Args:
        before: the product's newest ACTIVATE, if there is one.
        active: the version that judges now, where nobody ever activated one.
    """
    past = [active] if before is None else [before.value, *before.previous]
    unique = dict.fromkeys(each for each in past if each and each != version)
    return _command(
        Action.ACTIVATE,
        product=product,
        value=version,
        digest=digest,
        previous=tuple(unique)[:MAX_PREVIOUS],
    )


def rollback(product: str, before: Command | None) -> tuple[str, tuple[str, ...]]:
    """The version that was active before, and what remains to go back to from there.

    Raises:
        SettingsError: there is none.
    """
    if before is None or not before.previous:
        what = "was never activated" if before is None else f"has nothing before {before.value}"
        raise SettingsError(
            f"product {product!r} {what}: there is no version to go back to; name one with"
            f" `crosscheck models activate {product} VERSION`"
        )
    return before.previous[0], before.previous[1:]


def rolled_back(product: str, version: str, rest: Sequence[str], digest: str | None) -> Command:
    """The command that goes back to a version."""
    return _command(Action.ACTIVATE, product=product, value=version, digest=digest, previous=tuple(rest))


def threshold(product: str, setting: ThresholdSetting) -> Command:
    """The command that sets the limits of a mode, or takes them back."""
    return _command(Action.THRESHOLD, product=product, value=str(setting))


def _command(
    action: Action,
    *,
    product: str,
    value: str,
    digest: str | None = None,
    previous: tuple[str, ...] = (),
) -> Command:
    return Command(
        id=f"{action.value}-{secrets.token_hex(4)}",
        action=action,
        issued_at=time.time_ns(),
        product=product,
        value=value,
        digest=digest,
        previous=previous,
    )


def send(bus: Bus, topic: str, command: Command) -> None:
    """Put a command on the control topic, and wait until the broker has it. Raises BusError."""
    producer = bus.producer()
    try:
        producer.send(topic, encode(command), key=command.key, partition=0).wait(SEND_S)
    finally:
        producer.close()
