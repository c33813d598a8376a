"""Whether our packages are those that Python finds: a plant's own ``schemas`` folder may stand before them.

Looks without importing anything: what stands in a package's place may be another product's whole server.
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("schemas", "inference", "workers", "compose")
MARK = "Part of Crosscheck."
"""In the docstring of each package: a distribution that was installed over ours has other files there."""
BAD_INPUT = 2


class Clash(ImportError):
    """A file that is not ours has the name of a package of ours; the text says which, and what to do."""


def refuse_clashes() -> None:
    """Say in one line what stands in the place of a package of ours.

    Raises:
        Clash: something does; for the command line SystemExit, after that line on standard error.
    """
    found = clash()
    if found is None:
        _tell_hidden()
    elif _is_command():
        print(f"crosscheck: clash: {found}", file=sys.stderr)
        raise SystemExit(BAD_INPUT)
    else:
        raise Clash(found)


def clash() -> str | None:
    """What stands in the place of a package of ours, and what to do; None where nothing does."""
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        ours = home / name / "__init__.py"
        found = _place(name)
        if found is None:
            return f"its package {name} is not at {ours.parent}: install crosscheck again"
        if found != ours:
            return f"{found} shadows Crosscheck's package {name} ({ours.parent}): {_advice(name, found)}"
        if ours.is_file() and MARK not in ours.read_text(encoding="utf-8", errors="replace"):
            return (
                f"{ours} is not Crosscheck's: {_owners(name)} was installed over it; install Crosscheck in an"
                " environment of its own (python -m venv)"
            )
    return None


def _place(name: str) -> Path | None:
    """The file that ``import NAME`` runs, or has run; a folder's own path where it has no ``__init__.py``."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__spec__", None) is None:
        return Path(getattr(loaded, "__file__", None) or f"a module {name} made by hand")
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        return Path(spec.origin).resolve()
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).resolve() if places else Path(str(spec.origin))


def _advice(name: str, found: Path) -> str:
    folder = found.parent.parent if found.name == "__init__.py" else found.parent
    if "site-packages" in folder.parts or "dist-packages" in folder.parts:
        return (
            f"it belongs to {_owners(name)}; install Crosscheck in an environment of its own (python -m venv)"
        )
    return (
        "rename it, or run from another folder (a script's own folder comes first: python -P leaves it out),"
        f" or take {folder} out of PYTHONPATH"
    )


def _owners(name: str) -> str:
    """The distributions that say they have files under this name, without ours."""
    from importlib.metadata import packages_distributions  # slow to import, and seldom needed

    owners = sorted(set(packages_distributions().get(name, ())) - {"crosscheck"})
    return " and ".join(owners) or "another program"


def _tell_hidden() -> None:
    """Warn of a folder of the user's that ours hides: a package beats a folder without ``__init__.py``."""
    home = Path(__file__).resolve().parents[1]
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        if folder == home:
            return
        for name in PACKAGES:
            if (folder / name).is_dir() and any((folder / name).glob("*.py")):
                warnings.warn(
                    f"{folder / name} has no __init__.py, and so `import {name}` finds Crosscheck's package"
                    " of that name and not this folder: rename the folder",
                    RuntimeWarning,
                    stacklevel=4,
                )


def _is_command() -> bool:
    """Whether this is the command ``crosscheck`` (or ``python -m crosscheck``): it shows no tracebacks."""
    return sys.argv[:1] == ["-m"] or Path(sys.argv[0] if sys.argv else "").stem == "crosscheck"
