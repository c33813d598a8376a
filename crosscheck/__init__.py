"""What capture agents and subscribers import: ``from crosscheck import Publisher, StationMap, Verdicts``.

The names in ``__all__`` are the API (docs/api.md). They keep their meaning from one minor version to the
next; the packages behind them do not promise that. Each is imported when it is first used, so that a program
that only publishes waits for neither torch nor Redis.

Raises:
    Clash: another program's folder or distribution stands in the place of a package of ours. The command
        line says the same in one line and ends with exit code 2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crosscheck.clash import Clash, refuse_clashes

refuse_clashes()

if TYPE_CHECKING:
    from crosscheck.kafka import open_kafka
    from crosscheck.verdicts import Verdicts
    from schemas.errors import (
        BadImage,
        CrosscheckError,
        DigestMismatch,
        InvalidField,
        MalformedMessage,
        MessageTooLarge,
        SchemaError,
        UnsupportedVersion,
    )
    from schemas.frame import Frame
    from schemas.heatmap import Heatmap
    from schemas.images import decode_colour, decode_depth, decode_map
    from schemas.label import Label, LabelKind
    from schemas.notice import Notice
    from schemas.part import PartKey
    from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload
    from schemas.verdict import Decision, Mode, Region, SeenBy, Verdict
    from schemas.wire import decode_capture, decode_heatmap, decode_label, decode_verdict
    from workers.bus.base import Delivery
    from workers.bus.kafka import KafkaBus, KafkaSettings
    from workers.bus.oauth import OAuthToken
    from workers.bus.security import KafkaSecurity
    from workers.capture.buffer import DiskBuffer
    from workers.capture.log import AgentLog
    from workers.capture.publisher import Publisher
    from workers.errors import (
        BufferFull,
        BusError,
        RecordTooLarge,
        ServiceError,
        SettingsError,
        SourceError,
        WorkerError,
    )
    from workers.topics import StationMap

_WHERE = {
    "crosscheck.kafka": ("open_kafka",),
    "crosscheck.verdicts": ("Verdicts",),
    "schemas.errors": (
        "BadImage",
        "CrosscheckError",
        "DigestMismatch",
        "InvalidField",
        "MalformedMessage",
        "MessageTooLarge",
        "SchemaError",
        "UnsupportedVersion",
    ),
    "schemas.frame": ("Frame",),
    "schemas.heatmap": ("Heatmap",),
    "schemas.images": ("decode_colour", "decode_depth", "decode_map"),
    "schemas.label": ("Label", "LabelKind"),
    "schemas.notice": ("Notice",),
    "schemas.part": ("PartKey",),
    "schemas.payload": ("ColourEncoding", "DepthEncoding", "ImagePayload"),
    "schemas.verdict": ("Decision", "Mode", "Region", "SeenBy", "Verdict"),
    "schemas.wire": ("decode_capture", "decode_heatmap", "decode_label", "decode_verdict"),
    "workers.bus.base": ("Delivery",),
    "workers.bus.kafka": ("KafkaBus", "KafkaSettings"),
    "workers.bus.oauth": ("OAuthToken",),
    "workers.bus.security": ("KafkaSecurity",),
    "workers.capture.buffer": ("DiskBuffer",),
    "workers.capture.log": ("AgentLog",),
    "workers.capture.publisher": ("Publisher",),
    "workers.errors": (
        "BufferFull",
        "BusError",
        "RecordTooLarge",
        "ServiceError",
        "SettingsError",
        "SourceError",
        "WorkerError",
    ),
    "workers.topics": ("StationMap",),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "AgentLog",
    "BadImage",
    "BufferFull",
    "BusError",
    "Clash",
    "ColourEncoding",
    "CrosscheckError",
    "Decision",
    "Delivery",
    "DepthEncoding",
    "DigestMismatch",
    "DiskBuffer",
    "Frame",
    "Heatmap",
    "ImagePayload",
    "InvalidField",
    "KafkaBus",
    "KafkaSecurity",
    "KafkaSettings",
    "Label",
    "LabelKind",
    "MalformedMessage",
    "MessageTooLarge",
    "Mode",
    "Notice",
    "OAuthToken",
    "PartKey",
    "Publisher",
    "RecordTooLarge",
    "Region",
    "SchemaError",
    "SeenBy",
    "ServiceError",
    "SettingsError",
    "SourceError",
    "StationMap",
    "UnsupportedVersion",
    "Verdict",
    "Verdicts",
    "WorkerError",
    "decode_capture",
    "decode_colour",
    "decode_depth",
    "decode_heatmap",
    "decode_label",
    "decode_map",
    "decode_verdict",
    "open_kafka",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'crosscheck' has no attribute {name!r}; docs/api.md lists what it has")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
