"""Which layout a folder has, and its reader: every command that takes a folder of frames opens it here."""

from __future__ import annotations

from pathlib import Path

from inference.datasets import eyecandies, mvtec3d, realiad_d3
from inference.datasets.base import Dataset
from inference.datasets.conventions import Conventions
from inference.datasets.eyecandies import EyecandiesDataset
from inference.datasets.files import subfolders
from inference.datasets.mvtec3d import MVTec3DDataset
from inference.datasets.pairs import PairsDataset, has_pairs
from inference.datasets.photos import VISA_IMAGES, PhotosDataset, VisaDataset, good_folder, has_photos
from inference.datasets.realiad_d3 import RealIadD3Dataset
from inference.datasets.surface import SurfaceDataset
from inference.datasets.survey import nearest, survey
from inference.errors import DatasetError

KINDS = {
    "surface": "train/good/rgb/ and train/good/depth/",
    "mvtec3d": "train/good/rgb/ and train/good/xyz/ with .tiff",
    "eyecandies": "train/data/ with NAME_depth.png and NAME_info_depth.yaml",
    "realiad_d3": "realiad_d3_jsons/ and realiad_d3_raw/",
    "mvtec_ad": "train/good/ with colour images straight in it (MVTec AD, BTAD)",
    "visa": "Data/Images/Normal/ and Data/Images/Anomaly/",
    "pairs": "rgb/ and depth/, or NAME_rgb.png beside NAME_depth.png",
}
"""The layouts by name, and what shows each."""


LOTS = ("surface", "pairs", "mvtec_ad")
"""The layouts in which groups.csv is read."""


def recognise(path: Path | str) -> tuple[str, list[str]]:
    """(kind, categories) of a folder; no categories where the folder is that of one product.

    Raises:
        DatasetError: no such folder, no layout that is known, or several at once.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the one with train/ in it, or with categories")
    if realiad_d3.json_folder(folder) is not None:
        return "realiad_d3", realiad_d3.category_names(folder)
    kinds = _kinds(folder)
    if not kinds:
        below = {name: _kinds(folder / name) for name in subfolders(folder)}
        categories = sorted(name for name, found in below.items() if found)
        kinds = sorted({kind for found in below.values() for kind in found})
        # The folders of one set of pairs are no categories: only layouts with splits have these.
        if kinds and "pairs" not in kinds and len(kinds) == 1:
            return kinds[0], categories
    elif len(kinds) == 1:
        return kinds[0], []
    known = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    if len(kinds) > 1:
        raise DatasetError(
            f"{folder}: could be {' or '.join(kinds)}; name the kind. What shows a layout: {known}"
        )
    raise DatasetError(
        f"{folder}: no layout that is known. Found: {survey(folder)}. What to do: {nearest(folder)}. "
        f"Looked for {known}"
    )


def categories(path: Path | str, *, kind: str | None = None) -> list[str]:
    """The categories of a whole data set, sorted; none where the folder is that of one product.

    Raises:
        DatasetError: as ``recognise``.
    """
    if kind is None:
        return recognise(path)[1]
    _check_kind(kind)
    folder = Path(path)
    if kind == "realiad_d3":
        return realiad_d3.category_names(folder)
    if kind in _kinds(folder):
        return []
    return [name for name in subfolders(folder) if kind in _kinds(folder / name)]


def open_dataset(
    path: Path | str,
    *,
    kind: str | None = None,
    category: str | None = None,
    same_field: bool | None = None,
    depth_scale: float | None = None,
    conventions: Conventions | None = None,
) -> Dataset:
    """The reader of a folder; its ``kind`` says which layout was found.

    Args:
        path: the folder of a product, or of a whole data set with ``category``.
        kind: one of ``KINDS``; recognised where not given.
        category: which product of a whole data set.
        same_field: whether a depth image of another size shows the same field as its colour image.
        depth_scale: metres in a count of the samples' depth, in place of the layout's own.
        conventions: what else is said of the files' numbers, in place of the layout's own and dataset.json.

    Raises:
        DatasetError: an unknown layout or kind, a data set of several categories without ``category``, or
            one that is not there.
    """
    folder = Path(path)
    said = Conventions(depth_scale=depth_scale, same_field=same_field).over(conventions or Conventions())
    scale = said.depth_scale
    if kind is None:
        kind, names = recognise(folder)
    else:
        names = categories(folder, kind=kind)
    listed = ", ".join(names) or "none"
    if category is not None and category not in names and (names or folder.resolve().name != category):
        raise DatasetError(f"{folder}: no category {category!r} of {kind}; found: {listed}")
    if category is None and names:
        if len(names) > 1:
            raise DatasetError(f"{folder}: several categories of {kind} ({listed}); name one")
        category = names[0]
    if kind == "realiad_d3":
        return RealIadD3Dataset(
            folder,
            category or "",
            depth_scale=realiad_d3.DEPTH_SCALE if scale is None else scale,
            same_field=bool(said.same_field),
            conventions=said,
        )
    product = folder / category if category is not None and names else folder
    if kind not in LOTS and (product / "groups.csv").exists():
        raise DatasetError(
            f"{product / 'groups.csv'}: not read in the layout {kind}, whose images count as lots of their "
            "own; take it away"
        )
    if kind == "mvtec3d":
        return MVTec3DDataset(
            product, depth_scale=mvtec3d.DEPTH_SCALE if scale is None else scale, conventions=said
        )
    if kind == "eyecandies":
        return EyecandiesDataset(
            product, depth_scale=eyecandies.DEPTH_SCALE if scale is None else scale, conventions=said
        )
    if kind in ("mvtec_ad", "visa"):
        return PhotosDataset(product, said) if kind == "mvtec_ad" else VisaDataset(product, said)
    reader = PairsDataset if kind == "pairs" else SurfaceDataset
    return reader(product, conventions=said)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise DatasetError(f"kind of data set {kind!r}: use one of {', '.join(KINDS)}")


def _kinds(folder: Path) -> list[str]:
    """Every layout of one product that the folder shows."""
    found = []
    taught = [folder / split / "good" for split in ("train", "validation")]
    good = [root for split in ("train", "validation") if (root := good_folder(folder / split))]
    judged = [folder / "test" / label for label in subfolders(folder / "test")]
    paired = has_pairs(folder)
    if any((root / "xyz").is_dir() for root in taught + judged):
        found.append("mvtec3d")
    if any(
        (root / "depth").is_dir() or ((root / "rgb").is_dir() and not (root / "xyz").is_dir())
        for root in (taught if paired else taught + judged)
    ):
        found.append("surface")
    if any((folder / split / "data").is_dir() for split in ("train", "val", "test_public")):
        found.append("eyecandies")
    if paired:
        found.append("pairs")
    if any(has_photos(root) for root in (good if paired else good + judged)):
        found.append("mvtec_ad")
    if (folder / VISA_IMAGES / "Normal").is_dir():
        found.append("visa")
    if not found and any(root.is_dir() for root in taught + judged):
        # Something is missing in it: the reader of the layout says what, and this cannot.
        found.append("surface")
    return found
