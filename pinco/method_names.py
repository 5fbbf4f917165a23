"""The names of the methods: by what a generated image comes to match its product.

They stand in the settings, in channels, in every recipe and in the manifest, so they are never changed.
`pinco.pipelines.methods` has the methods themselves.
"""

from __future__ import annotations

from typing import Literal, get_args

MethodName = Literal["pinco", "blend", "fill", "controlnet"]
"""The adapter, latent blending, an inpainting pipeline over the backbone's own weights, an inpainting ControlNet."""

METHODS: tuple[MethodName, ...] = get_args(MethodName)

BARE = "bare"
"""The backbone alone, which is told nothing of the product: the baseline of measurements, never a catalog's method."""
