"""Pictures as data URLs: a labelling tool then needs no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCALE = 8


def picture(grey: NDArray[np.uint8]) -> str:
    """A picture (H, W) of 8 bits, enlarged, as a data URL."""
    sink = io.BytesIO()
    height, width = grey.shape
    Image.fromarray(grey).resize((width * SCALE, height * SCALE), Image.Resampling.NEAREST).save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
