"""Who else reads the frames as a member of the workers' group: its share of the parts ends nowhere.

Kafka gives each partition to one member of a group. A member that is no worker (a script or a console
consumer that was started with the group of the workers) reads its parts, commits their offsets and answers
nothing: no verdict is written, no dead letter, no gap. Nobody can answer them in its place, so it is said
loudly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

import structlog
from prometheus_client.core import Metric as Family

from schemas.errors import CrosscheckError
from workers.bus.kafka import GroupMember
from workers.telemetry import names
from workers.telemetry.families import family

log = structlog.get_logger(__name__)

LOOK_S = 10.0


class GroupWatch:
    """Looks at the group's members now and then, on a thread of its own.

    Args:
        members: asks the broker for them; may raise BusError.
        group: its name, for messages.
    """

    def __init__(self, members: Callable[[], Sequence[GroupMember]], group: str) -> None:
        self._members = members
        self._group = group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="group-watch", daemon=True)
        self._unknown = False
        self.foreign: tuple[GroupMember, ...] = ()
        """Members that are no workers, as the broker said last; read from any thread."""

    def look(self) -> None:
        """Ask once. A member that was not there at the last look is an alarm; raises nothing."""
        try:
            found = self._members()
        except CrosscheckError as error:
            if not self._unknown:
                self._unknown = True
                log.warning("worker.group_unknown", group=self._group, error=str(error))
            return
        self._unknown = False
        foreign = tuple(member for member in found if not member.ours)
        known = {(member.client, member.host) for member in self.foreign}
        for member in foreign:
            if (member.client, member.host) not in known:
                log.error(
                    "worker.foreign_member",
                    group=self._group,
                    client=member.client,
                    host=member.host,
                    partitions=sorted(map(str, member.partitions)),
                    fix="stop it or give it a group of its own: the parts it reads get no verdict",
                )
        if self.foreign and not foreign:
            log.info("worker.foreign_member_gone", group=self._group)
        self.foreign = foreign

    def trouble(self) -> str | None:
        """In one line, who is in the group and no worker; None where nobody is."""
        if not self.foreign:
            return None
        one = self.foreign[0]
        more = f" and {len(self.foreign) - 1} more" if len(self.foreign) > 1 else ""
        return (
            f"group {self._group} has a member that is no worker: {one.client} at {one.host}{more}; the parts"
            " it reads get no verdict: stop it, or give it a group of its own"
        )

    def collect(self) -> Iterable[Family]:
        """The number of foreign members, for Prometheus."""
        yield family(names.FOREIGN_MEMBERS, {(): float(len(self.foreign))})

    def start(self) -> None:
        """Begin to look, every ``LOOK_S`` seconds."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def close(self) -> None:
        """Stop looking, once a question that is on its way is answered."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
