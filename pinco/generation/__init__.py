"""One catalog image from a photo, a prompt and a model. Needs no Ray, no Prefect and no store.

    maker = ImageMaker()
    image = maker.make(photo, "a mug on a wooden table")

Names are imported when they are used: torch is loaded only where images are made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinco.generation.maker import CatalogImage, ImageMaker
    from pinco.generation.replay import Replayed
    from pinco.generation.settings import ModelSettings

_HOME = {
    "CatalogImage": "pinco.generation.maker",
    "ImageMaker": "pinco.generation.maker",
    "ModelSettings": "pinco.generation.settings",
    "Replayed": "pinco.generation.replay",
}

__all__ = ["CatalogImage", "ImageMaker", "ModelSettings", "Replayed"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
