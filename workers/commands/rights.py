"""``crosscheck rights``: who may do what at Kafka and Redis."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from workers.commands import console
from workers.errors import SettingsError
from workers.rights import RIGHTS, Rights, kafka_commands, kafka_rights, redis_command, rights_of
from workers.settings import Settings

PASSWORD = "PASSWORD"


def run_rights(settings: Settings, *, process: str | None, stations: Sequence[str], show: str) -> int:
    """Print the rights of one process or of all.

    Raises:
        SettingsError: an unknown process, kind of print or station name.
    """
    if not stations:
        raise SettingsError("no station was named: --stations NAME[,NAME]")
    rows = RIGHTS if process is None else (rights_of(process),)
    if show == "table":
        console.out.print(_table(rows))
        for row in rows:
            if row.beyond:
                console.out.print(f"[bold]{row.process}[/bold]: {row.beyond}", highlight=False)
        return console.OK
    if show == "kafka":
        lines = [
            line
            for row in rows
            for line in kafka_commands(
                list(kafka_rights(row, prefix=settings.topic_prefix, group=settings.group)), settings.kafka
            )
        ]
    elif show == "redis":
        lines = [line for row in rows if (line := redis_command(row, stations, PASSWORD)) is not None]
    else:
        raise SettingsError(f"--show {show}: use table, kafka or redis")
    if not lines:
        names = ", ".join(row.process for row in rows)
        console.err.print(f"nothing to print: {names} has no rights in {show.capitalize()}", highlight=False)
    for line in lines:
        # To be piped into a shell or redis-cli: one line each, however narrow the terminal is.
        print(line)
    return console.OK


def _table(rows: Sequence[Rights]) -> Table:
    table = Table(title="least rights", show_lines=True)
    for heading in ("process", "for", "Kafka", "Redis keys", "Redis commands"):
        # Folded, never cut: half a key is no right.
        table.add_column(heading, overflow="fold")
    for row in rows:
        kafka = [f"{topic}: {', '.join(operations)}" for topic, operations in row.topics.items()]
        if row.group is not None:
            kafka.append(f"group {row.group}" + (", transactions" if row.transactional else ""))
        table.add_row(
            row.process,
            row.does,
            "\n".join(kafka) or "none",
            "\n".join(row.keys) or "none",
            " ".join(row.commands) or "none",
        )
    return table
