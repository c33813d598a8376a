"""A plain folder of pairs: what a person has who recorded good parts and sorted nothing.

    FOLDER/rgb/NAME.png                     colour, of any format in ``inference.datasets.formats``
    FOLDER/depth/NAME.png                   counts of 16 bits, 0 = no reading; or see below
    FOLDER/NAME_rgb.png, NAME_depth.png     instead of the two folders: the pairs side by side
    FOLDER/groups.csv, dataset.json         optional, as in the surface layout
    FOLDER/test/good/..., test/KIND/...     optional, as in the surface layout: labelled frames to be judged

One of the two sensors may be missing altogether; where both are there, each name needs both. Depth of
integers is counts. Depth of floats is metres, or what ``depth_unit`` says, and of points x, y, z it is z;
0 or NaN = no reading; it becomes counts of ``depth_scale``. Every image counts as good: ``train`` and
``validation`` are whole groups of them, every fifth group for validation, the same at every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from inference.datasets.base import GOOD, Item, Notes
from inference.datasets.conventions import Conventions
from inference.datasets.depth import check_pair, load_pair
from inference.datasets.files import check_partners, check_readable, images, note_content, strangers
from inference.datasets.groups import Groups, Split, matched, read_groups, split_off
from inference.datasets.surface import SurfaceDataset, describe, told
from inference.errors import DatasetError


class PairsDataset:
    """Reads a folder of the layout above.

    Args:
        folder: the folder with rgb/ and depth/, or with the pairs side by side.
        depth_scale: metres in a count; overrides dataset.json.
        same_field: whether a depth image of another size shows the same field as its colour image.
        frames_per_group: how many neighbouring frames of a recording make a group.
        conventions: what else is said of the files' numbers; overrides dataset.json.

    Raises:
        DatasetError: the folder is missing, or its groups.csv or dataset.json cannot be read.
    """

    kind = "pairs"

    def __init__(
        self,
        folder: Path | str,
        *,
        depth_scale: float | None = None,
        same_field: bool | None = None,
        frames_per_group: int = 2,
        conventions: Conventions | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; give the one with rgb/ and depth/")
        described = describe(self.folder / "dataset.json")
        self.name = str(described.get("name", self.folder.resolve().name))
        self.conventions = told(self.folder, described, depth_scale, same_field, conventions)
        self.notes = Notes()
        self._frames_per_group = frames_per_group

    @property
    def depth_scale(self) -> float | None:
        """Metres in a count, where it is known."""
        return self.conventions.depth_scale

    @property
    def same_field(self) -> bool:
        """Whether depth of another size shows the colour image's field."""
        return bool(self.conventions.same_field)

    def all(self) -> Sequence[Item]:
        """Every pair, in order of the names. Raises DatasetError naming the first file that is wrong."""
        colour, depth = find_pairs(self.folder, self.notes)
        if not colour and not depth:
            raise DatasetError(
                f"{self.folder}: no pairs; put colour images in rgb/ and depth images of the same names in "
                "depth/, or name them NAME_rgb.png and NAME_depth.png"
            )
        if colour and depth:
            check_partners(colour, depth, self.folder, "depth")
        named = read_groups(self.folder / "groups.csv")
        stems = sorted(colour or depth)
        judged = {p.stem for p in self.folder.glob("test/*/*/*") if p.parent.name in ("rgb", "depth")}
        found, notes = matched(named, {*stems, *judged}, self.folder / "groups.csv")
        groups = Groups(found, stems, self._frames_per_group)
        self.notes.tell(*notes, *groups.guesses(stems))
        for stem in stems:
            check_pair(colour.get(stem), depth.get(stem), same_field=self.same_field)
        return [
            Item(
                name=stem,
                group=groups.of(stem),
                split="train",
                label=GOOD,
                load=partial(load_pair, colour.get(stem), depth.get(stem), self.conventions),
            )
            for stem in stems
        ]

    def train(self) -> Sequence[Item]:
        """Four in five groups of the pairs. Raises DatasetError as ``all`` does."""
        return self._divided().train

    def validation(self) -> Sequence[Item]:
        """Every fifth group, or every fifth frame of too few groups. Raises DatasetError as above."""
        return self._divided().validation

    def _divided(self) -> Split:
        divided = split_off(self.all())
        self.notes.tell(divided.note)
        return divided

    def test(self) -> Sequence[Item]:
        """The labelled frames in test/. Raises DatasetError where there are none."""
        # The layout of test/ is the same, so it has one reader.
        reader = SurfaceDataset(self.folder, conventions=self.conventions)
        items = reader.test()
        self.notes.tell(*(note for note in reader.notes if "groups.csv" not in note))
        return items


def find_pairs(folder: Path, notes: Notes) -> tuple[dict[str, Path], dict[str, Path]]:
    """(colour, depth) images of the folder by name; from rgb/ and depth/ where one of these is there.

    Raises:
        DatasetError: two files of one sensor have the same name, a file is not read, or one sensor's files
            alone were found and something lies beside them that may be the other's.
    """
    colour: dict[str, Path] = {}
    depth: dict[str, Path] = {}
    if (folder / "rgb").is_dir() or (folder / "depth").is_dir():
        colour, depth = images(folder / "rgb", notes), images(folder / "depth", notes)
        if not (colour and depth):
            _check_alone(folder)
        return colour, depth
    others = []
    for path in strangers(folder, ()):
        name, _, ending = path.stem.rpartition("_")
        side = {"rgb": colour, "depth": depth}.get(ending.lower()) if not path.is_dir() else None
        if side is None:
            others.append(path)
            continue
        check_readable(path)
        if name in side:
            raise DatasetError(f"{path}: {side[name].name} has the same name; keep one of them")
        side[name] = path
        note_content(path, notes)
    files = [path for path in others if not path.is_dir()]
    if (colour or depth) and files:
        if not (colour and depth):
            raise DatasetError(
                f"{files[0]}: named neither NAME_rgb nor NAME_depth, beside images of one sensor alone; "
                "rename it if it is the other's, or take it away"
            )
        for path in files:
            notes.about(path, "not read; it is named neither NAME_rgb nor NAME_depth")
    return colour, depth


def _check_alone(folder: Path) -> None:
    """See that no folder with files lies beside that of one sensor: it may be the other's."""
    for path in strangers(folder, ("rgb", "depth", "gt", "test")):
        if path.is_dir() and any(not one.is_dir() for one in strangers(path, ())):
            raise DatasetError(
                f"{path}: not read, beside one sensor's images alone; call it rgb/ or depth/ if it is the "
                "other's, or take it away"
            )


def has_pairs(folder: Path) -> bool:
    """Whether the folder has a sensor's folder with anything in it, or files with the sensors' endings."""
    if any(strangers(folder / sensor, ()) for sensor in ("rgb", "depth")):
        return True
    endings = ("_rgb", "_depth")
    return any(path.stem.lower().endswith(endings) for path in strangers(folder, ()) if not path.is_dir())
