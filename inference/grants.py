"""Leave to pass parts with one sensor down: a file beside the manifest, given on evidence only.

A bundle never changes, so what was found out about it later stands in ``grants.json`` in its folder, tied to
the manifest by digest. Teaching again makes another folder without that file: a grant never outlives what it
was given for.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import BundleError, GrantRefused
from schemas import strict_json
from schemas.regular import open_regular
from schemas.verdict import Mode

GRANTS = "grants.json"
SCHEMA = 1
MAX_BYTES = 2**20
GRANTABLE = (Mode.RGB, Mode.DEPTH)
"""With both sensors there is nothing to grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A mode may give PASS although the other sensor is down.

    Attributes:
        mode: RGB or DEPTH.
        miss_rate: share of labelled defects that the mode passed at ``threshold``.
        interval: of the miss rate, 95 %.
        defects: how many defects were shown to the mode.
        dataset: the name of the labelled set.
        threshold: the pass limit of the mode, as the bundle ships it.
        max_miss: what was accepted; the upper end of ``interval`` is at or below it.
    """

    mode: Mode
    miss_rate: float
    interval: tuple[float, float]
    defects: int
    dataset: str
    threshold: float
    max_miss: float

    def to_map(self) -> dict[str, Any]:
        """Plain values, without the mode, which is the key."""
        return {
            "miss_rate": self.miss_rate,
            "interval": list(self.interval),
            "defects": self.defects,
            "dataset": self.dataset,
            "threshold": self.threshold,
            "max_miss": self.max_miss,
        }


def decide(
    mode: Mode,
    *,
    miss_rate: float | None,
    interval: tuple[float, float] | None,
    defects: int,
    dataset: str,
    threshold: float | None,
    max_miss: float,
) -> Grant:
    """The grant, where the miss rate is shown to be at most ``max_miss``.

    It is the upper end of the interval that counts: few defects, all found, are not enough.

    Raises:
        GrantRefused: the mode was not evaluated, or its miss rate may be above what is accepted.
    """
    if mode not in GRANTABLE:
        raise GrantRefused(f"{mode.value}: every sensor is there; only RGB and DEPTH can be granted")
    if not 0.0 < max_miss < 1.0:
        raise GrantRefused(f"accepted miss rate {max_miss}: use a share above 0 and below 1, such as 0.05")
    if miss_rate is None or interval is None or threshold is None or not defects:
        raise GrantRefused(
            f"{mode.value} on {dataset}: no labelled defect was inspected in this mode; "
            "give a set with defects that the product can be inspected on in it"
        )
    if interval[1] > max_miss:
        more = "" if miss_rate > max_miss else "; more labelled defects narrow the interval"
        raise GrantRefused(
            f"{mode.value} on {dataset}: missed {100 * miss_rate:.1f} % of {defects} defects, up to "
            f"{100 * interval[1]:.1f} % by the 95 % interval, and {100 * max_miss:.1f} % is accepted{more}"
        )
    return Grant(
        mode=mode,
        miss_rate=miss_rate,
        interval=interval,
        defects=defects,
        dataset=dataset,
        threshold=threshold,
        max_miss=max_miss,
    )


def read_grants(bundle: Path, manifest_digest: str) -> Mapping[Mode, Grant]:
    """The grants of a bundle folder; none where there is no file.

    Args:
        bundle: the folder that holds manifest.json.
        manifest_digest: sha256 (hex) of that manifest, as ``Bundle.digest``.

    Raises:
        BundleError: the file is damaged, or was written for another manifest.
    """
    path = bundle / GRANTS
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise _damaged(path, f"more than {MAX_BYTES} bytes")
    try:
        found = strict_json.loads(raw)
    except ValueError as error:
        raise _damaged(path, f"not JSON ({error})") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise _damaged(path, f"not an object of schema {SCHEMA}")
    if found.get("manifest_sha256") != manifest_digest:
        raise BundleError(
            f"{path}: written for another manifest ({found.get('manifest_sha256')}, this one is "
            f"{manifest_digest}); delete the file and grant again with `crosscheck evaluate --grant MODE`"
        )
    rows = found.get("grants")
    if not isinstance(rows, dict):
        raise _damaged(path, "grants is missing")
    return {grant.mode: grant for grant in (_grant(path, name, row) for name, row in rows.items())}


def write_grant(bundle: Path, manifest_digest: str, grant: Grant) -> Path:
    """Add a grant, or replace that of the same mode; the file is replaced whole. Gives its path.

    Raises:
        BundleError: the present file is damaged or for another manifest, or the folder cannot be written.
    """
    return _write(bundle, manifest_digest, {**read_grants(bundle, manifest_digest), grant.mode: grant})


def revoke_grant(bundle: Path, manifest_digest: str, mode: Mode) -> bool:
    """Take a grant back; whether there was one.

    Raises:
        BundleError: as ``write_grant``.
    """
    grants = dict(read_grants(bundle, manifest_digest))
    if grants.pop(mode, None) is None:
        return False
    _write(bundle, manifest_digest, grants)
    return True


def _write(bundle: Path, manifest_digest: str, grants: Mapping[Mode, Grant]) -> Path:
    path = bundle / GRANTS
    value = {
        "schema": SCHEMA,
        "manifest_sha256": manifest_digest,
        "grants": {mode.value: grants[mode].to_map() for mode in sorted(grants)},
    }
    draft: Path | None = None
    try:
        # Beside its target and renamed onto it: a worker that starts meanwhile reads the old one or the new.
        handle, name = tempfile.mkstemp(prefix=".grants-", dir=bundle)
        draft = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise BundleError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _grant(path: Path, name: str, row: object) -> Grant:
    if name not in {mode.value for mode in GRANTABLE}:
        raise _damaged(path, f"grants mode {name!r}, and only RGB and DEPTH can be granted")
    if not isinstance(row, dict):
        raise _damaged(path, f"{name} is not an object")
    ends, defects, dataset = row.get("interval"), row.get("defects"), row.get("dataset")
    if not isinstance(ends, list) or len(ends) != 2:
        raise _damaged(path, f"{name}.interval is not two numbers")
    if not isinstance(dataset, str) or isinstance(defects, bool) or not isinstance(defects, int):
        raise _damaged(path, f"{name}.dataset or {name}.defects is missing")
    low, high = (_number(path, f"{name}.interval", end) for end in ends)
    rate, threshold, accepted = (
        _number(path, f"{name}.{key}", row.get(key)) for key in ("miss_rate", "threshold", "max_miss")
    )
    # A grant that its own figures do not carry was not written by ``decide``.
    if not 0.0 <= low <= rate <= high <= accepted < 1.0 or defects < 1:
        raise _damaged(path, f"{name}: miss rate {rate} of {defects} in {ends}, accepted {accepted}")
    return Grant(
        mode=Mode(name),
        miss_rate=rate,
        interval=(low, high),
        defects=defects,
        dataset=dataset,
        threshold=threshold,
        max_miss=accepted,
    )


def _number(path: Path, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _damaged(path, f"{name} is {value!r}, not a number")
    return float(value)


def _damaged(path: Path, what: str) -> BundleError:
    return BundleError(f"{path}: {what}; delete the file and grant again with `crosscheck evaluate --grant`")
