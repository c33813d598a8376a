"""A dataset as the workers will see it: every image through the codecs of the wire.

JPEG changes the fine grain of a picture. A product taught on pictures from before the codec is judged on
pictures from behind it, and the difference reads as a defect; so teach on what the line sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inference.datasets.base import Dataset, Item
from inference.sample import Sample
from schemas.images import decode_colour, encode_colour
from schemas.payload import ColourEncoding


class AsPublished:
    """A dataset whose colour images went through the wire's codec; depth codecs lose nothing.

    Args:
        dataset: where the frames come from.
        colour, quality: as given to ``Publisher``.
    """

    def __init__(
        self, dataset: Dataset, *, colour: ColourEncoding = ColourEncoding.JPEG, quality: int = 92
    ) -> None:
        self._dataset = dataset
        self._colour = colour
        self._quality = quality

    @property
    def name(self) -> str:
        """The dataset's own name."""
        return self._dataset.name

    def train(self) -> Sequence[Item]:
        """Its teaching frames."""
        return [self._wrap(item) for item in self._dataset.train()]

    def validation(self) -> Sequence[Item]:
        """Its validation frames."""
        return [self._wrap(item) for item in self._dataset.validation()]

    def test(self) -> Sequence[Item]:
        """Its test frames."""
        return [self._wrap(item) for item in self._dataset.test()]

    def _wrap(self, item: Item) -> Item:
        def load() -> Sample:
            sample = item.load()
            if sample.rgb is None:
                return sample
            return replace(
                sample, rgb=decode_colour(encode_colour(sample.rgb, self._colour, quality=self._quality))
            )

        return replace(item, load=load)
