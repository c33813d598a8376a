"""The reference page: every setting, topic, key and metric, by name."""

from __future__ import annotations

from workers.reference.tables import key_rows, lifetime_rows, metric_rows, settings_rows, table, topic_rows

_HEAD = """# Reference

Written by `make docs` from the code; a test fails where it differs. The topics and their messages, field by
field, are in [asyncapi.yaml](asyncapi.yaml). Each command explains its flags: `crosscheck COMMAND --help`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(
        (
            _HEAD,
            "## Settings",
            "",
            "Environment variables, or the same names in small letters without the prefix in a TOML file"
            " (`--config FILE`, `CROSSCHECK_CONFIG`), or flags where a command has them; the last wins.",
            "A variable that begins with `CROSSCHECK_` and is none of these is refused.",
            "",
            table(("variable", "default", "values", "what it is"), settings_rows()),
            "",
            "## Topics",
            "",
            "`PREFIX` is `CROSSCHECK_TOPIC_PREFIX`. Kept: as `crosscheck topics` plans it where nothing else"
            " is asked for. Written and read: by whose rights, as `crosscheck rights` prints them.",
            "",
            table(
                ("topic", "messages", "key", "in order", "kept", "written by", "read by", "what it is"),
                topic_rows(),
            ),
            "",
            "## Keys in Redis",
            "",
            "All keys of a station share its hash tag, so that one call may touch them in a cluster too.",
            "",
            table(("key", "what it holds", "used by"), key_rows()),
            "",
            "Lifetimes in seconds and caps; every key has one or the other.",
            "",
            table(("name", "default"), lifetime_rows()),
            "",
            "## Metrics",
            "",
            "Every process answers at `CROSSCHECK_METRICS`: `/metrics` for Prometheus, `/health/live` and"
            " `/health/ready` with 200 or 503 and what is wrong.",
            "",
            table(("metric", "kind", "labels", "of", "what it says"), metric_rows()),
            "",
        )
    )
