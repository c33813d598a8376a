"""What a camera gives, before it is encoded: an image, or an error that says what was expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.errors import BadImage


def checked_image(
    name: str, image: NDArray[np.uint8] | NDArray[np.uint16] | None, kind: type[np.generic], dimensions: int
) -> None:
    """Refuse what is no image of the sensor; None is a sensor that gave nothing. Raises BadImage."""
    if image is None:
        return
    want = "uint8 (H, W, 3) in RGB order" if dimensions == 3 else "uint16 (H, W) in sensor counts"
    if not isinstance(image, np.ndarray):
        raise BadImage(f"{name}: found {type(image).__name__}, expected a numpy array, {want}")
    fits = image.dtype == kind and image.ndim == dimensions and (dimensions == 2 or image.shape[2] == 3)
    if not fits or not image.size:
        raise BadImage(
            f"{name}: found {image.dtype} {image.shape}, expected {want}; convert it before sending"
        )
