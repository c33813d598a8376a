"""What a reader refuses in each field, beyond its type: lengths, ranges, words. Tests ask the readers."""

from __future__ import annotations

from typing import Any

from inference.errors import BadSample, BundleError
from schemas.codes import DEGRADED, ReasonCode, SensorCode
from schemas.command import MAX_PREVIOUS, MAX_PRODUCT, Command
from schemas.errors import CrosscheckError, SchemaError
from schemas.fields import INT64_MAX
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap, HeatmapEncoding
from schemas.label import MAX_BY, MAX_NOTE, Label
from schemas.notice import MAX_WHY, Notice
from schemas.payload import MAX_SIDE, ColourEncoding, DepthEncoding, ImagePayload
from schemas.verdict import FOREGROUNDS, MAX_LABEL, MAX_REGIONS, MAX_SOURCES, Region, SeenBy, Source, Verdict
from workers.errors import Changeover, ClockOffset
from workers.models import UnknownProduct
from workers.reference.words import listed, members, summary
from workers.steps.inspecting import ModelFailure

Extra = dict[str, Any]

STATION = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
KEY = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[0-9]{1,19}/[0-9]{1,19}$"
TEXT = 256
"""Characters of a text that states no other limit."""

_PRODUCT: Extra = {"minLength": 1, "maxLength": MAX_PRODUCT}
_SIDE: Extra = {"minimum": 1, "maximum": MAX_SIDE, "format": "int32"}
_BOX: Extra = {"minimum": 0, "maximum": 2**20, "format": "int32"}
_STATION: Extra = {"pattern": STATION}


def error_codes() -> dict[str, str]:
    """The codes of errors that a worker answers a part with, and what each means."""
    found: dict[str, str] = {}
    for base in (SchemaError, BadSample, BundleError, ClockOffset, Changeover, UnknownProduct, ModelFailure):
        for kind in (base, *_below(base)):
            found.setdefault(kind.reason, f"ERROR: {summary(kind)}")
    return found


def _below(base: type[CrosscheckError]) -> list[type[CrosscheckError]]:
    return [each for kind in base.__subclasses__() for each in (kind, *_below(kind))]


def open_words(words: list[str]) -> Extra:
    """One of the words of this version, or a text that a later version may bring."""
    return {"anyOf": [{"type": "string", "enum": words}, {"type": "string"}]}


def _reason() -> Extra:
    codes = members(ReasonCode) | error_codes()
    told = {code: codes[code] for code in sorted(codes)}
    known = {"type": "string", "pattern": f"^({'|'.join(told)})(: .*)?$", "x-codes": list(told)}
    return {
        "anyOf": [known, {"type": "string", "maxLength": 1024}, {"type": "null"}],
        "description": "Why, for everything but a plain PASS or REJECT: a code, alone or followed by a colon"
        " and words for people. Readers treat a code that they do not know as any other reason. "
        + listed(told),
    }


def _degraded() -> Extra:
    return {
        "items": open_words(list(DEGRADED)),
        "maxItems": 64,
        "description": "Why fewer sensors than the station has were used, or why trust is reduced: a sensor,"
        " a colon and a code. " + listed(members(SensorCode)),
    }


def _image(encodings: type[Any], what: str) -> Extra:
    told = members(encodings)
    return {"encoding": {"enum": list(told), "description": f"{what} {listed(told)}"}}


IMAGES: dict[tuple[type[Any], str], Extra] = {
    (Frame, "rgb"): _image(ColourEncoding, "How the colour image is written."),
    (Frame, "depth"): _image(DepthEncoding, "How the depth image is written; every encoding is lossless."),
    (Heatmap, "image"): _image(HeatmapEncoding, "How the map is written."),
}
"""Fields that hold an image: what its own fields may hold there."""

EXTRAS: dict[tuple[type[Any], str], Extra] = {
    (ImagePayload, "height"): _SIDE,
    (ImagePayload, "width"): _SIDE,
    (ImagePayload, "digest"): {"maximum": 2**32 - 1, "format": "int64"},
    (Frame, "product"): _PRODUCT,
    (Frame, "encoder"): {"minimum": -INT64_MAX},
    (Frame, "depth_scale"): {"exclusiveMinimum": 0},
    (Frame, "calibration"): {"maxLength": TEXT},
    (Frame, "expects"): {
        "items": {"type": "string", "enum": ["rgb", "depth"]},
        "minItems": 1,
        "maxItems": 2,
        "uniqueItems": True,
        "default": ["rgb", "depth"],
    },
    (Notice, "product"): _PRODUCT,
    (Notice, "why"): {"minLength": 1, "maxLength": MAX_WHY},
    (Heartbeat, "station"): _STATION,
    (Heartbeat, "agent"): {"minLength": 1, "maxLength": 128},
    (Verdict, "product"): {"maxLength": MAX_PRODUCT},
    (Verdict, "worker"): {"maxLength": TEXT},
    (Verdict, "coverage"): {"minimum": 0, "maximum": 1},
    (Verdict, "degraded"): _degraded(),
    (Verdict, "reason"): _reason(),
    (Verdict, "regions"): {"maxItems": MAX_REGIONS},
    (Verdict, "sources"): {"maxItems": MAX_SOURCES},
    (Verdict, "attempt"): {"minimum": 1},
    (Verdict, "bundle"): {"maxLength": TEXT},
    (Verdict, "bundle_hash"): {"maxLength": TEXT},
    (Verdict, "heatmap_key"): {"maxLength": TEXT},
    (Verdict, "foreground"): {
        "anyOf": [
            {"type": "string", "enum": list(FOREGROUNDS)},
            {"type": "string", "maxLength": MAX_LABEL},
            {"type": "null"},
        ]
    },
    (Region, "x"): _BOX,
    (Region, "y"): _BOX,
    (Region, "width"): _BOX,
    (Region, "height"): _BOX,
    (Region, "seen_by"): {
        "anyOf": [
            {"type": "string", "enum": [member.value for member in SeenBy]},
            {"type": "string", "maxLength": MAX_LABEL},
            {"type": "null"},
        ]
    },
    (Source, "topic"): {"maxLength": TEXT},
    (Label, "product"): _PRODUCT,
    (Label, "by"): {"minLength": 1, "maxLength": MAX_BY},
    (Label, "note"): {"maxLength": MAX_NOTE},
    (Label, "revision"): {"minimum": 1},
    (Label, "bundle"): {"maxLength": TEXT},
    (Command, "id"): {"minLength": 1, "maxLength": 128},
    (Command, "target"): {"maxLength": TEXT},
    (Command, "product"): {"maxLength": MAX_PRODUCT},
    (Command, "value"): {"maxLength": TEXT},
    (Command, "previous"): {"maxItems": MAX_PREVIOUS},
    (Command, "digest"): {"maxLength": 64},
}
"""What is added to the schema of a field."""

MAY_LACK: frozenset[tuple[type[Any], str]] = frozenset(
    {(Frame, "expects"), (Command, "previous"), (Label, "withdrawn")}
)
"""Fields that readers do not miss although null is not one of their values."""
