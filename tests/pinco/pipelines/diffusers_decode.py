"""The images of diffusers' own decode: its pipelines are called for images instead of latents."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import pytest

from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.arrays import U8


def decode_in_the_call(pinco: PincoPipeline, pipe: Any, patch: pytest.MonkeyPatch) -> list[int]:
    """From now on `pipe` decodes for itself; returns the numbers of images that it decoded, call by call."""
    kind, decoded = type(pipe), []
    call = kind.__call__

    def whole(self: Any, *arguments: Any, output_type: str, **options: Any) -> tuple[Any]:
        assert output_type == "latent"
        images, *_ = call(self, *arguments, output_type="np", **options)
        decoded.append(len(images))
        return (images,)

    whole.__signature__ = signature(call)  # type: ignore[attr-defined]

    def images(made: Any, size: tuple[int, int]) -> list[U8]:
        return [np.asarray(np.rint(image * 255.0), np.uint8) for image in made]

    patch.setattr(kind, "__call__", whole)
    patch.setattr(pinco.decoder, "images", images)
    return decoded
