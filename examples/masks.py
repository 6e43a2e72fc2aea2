"""Masks of digits on noise, of which a fifth lacks an object, gives it another class or is shifted."""

from __future__ import annotations

import numpy as np

from examples.canvases import CLASSES, DAMAGED, IMAGES, SIZE, make_canvases
from examples.pictures import picture
from examples.planted import Planted


def make_masks(seed: int = 0) -> Planted:
    """Draw the images, damage some masks, and train a small network in folds."""
    canvases = make_canvases(seed)
    grey = 255 * (1 - np.clip(canvases.images, 0, 1))
    return Planted(
        task="masks",
        what=f"{IMAGES} images of {SIZE} x {SIZE} pixels, {DAMAGED:.0%} of their masks damaged",
        logits=canvases.logits,
        targets=canvases.given,
        true=canvases.true,
        class_names=["background", *(f"digit {number}" for number in range(CLASSES - 1))],
        attributes={"image": [picture(pixels.astype(np.uint8)) for pixels in grey]},
    )
