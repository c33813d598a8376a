"""The review folder: what was labelled, with its pictures: a label outlives the frame in Kafka.

FOLDER/PRODUCT/STATION-RUN-TRIGGER-rgb.png      as the worker saw it, decoded, lossless
FOLDER/PRODUCT/STATION-RUN-TRIGGER-depth.png    16 bits, in the sensor's counts
FOLDER/PRODUCT/labels.jsonl                     one line a label; of a part the highest revision holds
FOLDER/PRODUCT/withdrawn/                       pictures whose label was taken back, until it is given again
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from schemas.errors import SchemaError
from schemas.images import decode_colour, decode_depth
from schemas.label import Label
from schemas.part import PartKey
from schemas.verdict import Verdict
from workers.board.pictures import MAX_PIXELS, Images
from workers.durable import sync_folder

RECORDS = "labels.jsonl"
WITHDRAWN = "withdrawn"
VERSION = 1
# As a product's bundle is named: what cannot be taught need not be kept, and no name leaves the folder.
_PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a labelled part lies in the folder, and why not all of it."""

    rgb: bool
    depth: bool
    why: str | None = None

    def to_map(self) -> dict[str, Any]:
        """As the answer to a label has it."""
        return {"rgb": self.rgb, "depth": self.depth, "why": self.why}


class ReviewFolder:
    """Writes the folder. One process writes a folder; threads of it take turns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def keep(self, label: Label, verdict: Verdict, images: Images) -> Kept:
        """Save a part's pictures, where they are not there yet, and write its label down.

        Never raises: a label holds whether or not its pictures could be kept. What could not be done is said.
        """
        if not _PRODUCT.match(label.product):
            return Kept(False, False, "its product has a name that no bundle can have")
        folder = self._folder / label.product
        with self._lock:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                saved, why = self._save(folder, label.part, images)
                _append(folder / RECORDS, _record(label, verdict, images, saved))
            except OSError as error:
                return Kept(False, False, f"{folder}: cannot be written ({error.strerror or error})")
        return Kept("rgb" in saved, "depth" in saved, why)

    def withdraw(self, label: Label, verdict: Verdict) -> Kept:
        """Write down that a part's label is taken back, and put its pictures aside.

        Raises:
            OSError: the folder still says what it said.
        """
        folder = self._folder / label.product
        if not _PRODUCT.match(label.product) or not (folder / RECORDS).exists():
            return Kept(False, False, "nothing of it was kept")
        with self._lock:
            # The line first: it is what holds, wherever the pictures are.
            _append(folder / RECORDS, _record(label, verdict, Images(), {}))
            for path in (folder / f"{stem_of(label.part)}-{name}.png" for name in ("rgb", "depth")):
                if path.exists():
                    (folder / WITHDRAWN).mkdir(exist_ok=True)
                    path.replace(folder / WITHDRAWN / path.name)
            sync_folder(folder)
        return Kept(False, False, "its label was taken back")

    def _save(self, folder: Path, part: PartKey, images: Images) -> tuple[dict[str, Any], str | None]:
        saved: dict[str, Any] = {}
        why = images.why
        for name, payload in (("rgb", images.rgb), ("depth", images.depth)):
            path = folder / f"{stem_of(part)}-{name}.png"
            aside = folder / WITHDRAWN / path.name
            if not path.exists() and aside.exists():
                aside.replace(path)
            if not path.exists():
                if payload is None:
                    continue
                try:
                    if name == "rgb":
                        colour = decode_colour(payload, max_pixels=MAX_PIXELS)
                        data = _png(cv2.cvtColor(colour, cv2.COLOR_RGB2BGR))
                    else:
                        data = _png(decode_depth(payload, max_pixels=MAX_PIXELS))
                except SchemaError as error:
                    why = f"{name}: {error}"
                    continue
                _write(path, data)
            data = path.read_bytes()
            saved[name] = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
        return saved, None if len(saved) == 2 else why


def stem_of(part: PartKey) -> str:
    """What the names of a part's files begin with. Run and trigger are digits: no two parts share one."""
    return f"{part.station}-{part.run}-{part.trigger}"


def _record(label: Label, verdict: Verdict, images: Images, saved: Mapping[str, Any]) -> dict[str, Any]:
    body = label.to_map()
    return {
        "v": VERSION,
        "part": str(label.part),
        **body,
        "degraded": list(verdict.degraded),
        "captured_at": verdict.captured_at,
        "depth_scale": images.depth_scale,
        "rgb": saved.get("rgb"),
        "depth": saved.get("depth"),
    }


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """One more line, on the disk before this returns."""
    line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    fresh = not path.exists()
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                # The board was killed in the middle of a line: that one is lost, this one must not be.
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        sync_folder(path.parent)


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def _png(image: np.ndarray[Any, Any] | cv2.typing.MatLike) -> bytes:
    ok, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not ok:
        raise SchemaError("the image cannot be written as PNG")
    return data.tobytes()
