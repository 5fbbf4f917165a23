"""Array types that pass between the modules. Images are RGB, row-major: shape `[H, W, 3]`."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

U8: TypeAlias = NDArray[np.uint8]
F32: TypeAlias = NDArray[np.float32]
Bits: TypeAlias = NDArray[np.bool_]

NEUTRAL = 128
"""Grey level of the background that a product is composited on for the VAE and the Sobel filter."""
