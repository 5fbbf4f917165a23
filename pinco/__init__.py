"""Catalog images from product photos and a prompt sheet, with the product itself untouched.

The public API, by what it is for:

* making one image: `ImageMaker`, `ModelSettings`
* the method on a diffusers pipeline: `PincoAdapter`
* reading what was made: `open_manifest`, `read_manifest`, `open_store`, `StoreAccess`
* errors: `PincoError`

Everything else is public in its own module, as far as its name has no leading underscore, and may move between minor
versions. Names are imported when they are used: `import pinco` loads neither torch nor pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pinco.errors import PincoError

if TYPE_CHECKING:
    from pinco.adapter import PincoAdapter
    from pinco.catalog.manifest.readers import read_manifest
    from pinco.catalog.manifest.table import open_manifest
    from pinco.catalog.store.access import StoreAccess, open_store
    from pinco.generation.maker import CatalogImage, ImageMaker
    from pinco.generation.settings import ModelSettings

__version__ = version("pinco")

_HOME = {
    "CatalogImage": "pinco.generation.maker",
    "ImageMaker": "pinco.generation.maker",
    "ModelSettings": "pinco.generation.settings",
    "PincoAdapter": "pinco.adapter",
    "StoreAccess": "pinco.catalog.store.access",
    "open_manifest": "pinco.catalog.manifest.table",
    "open_store": "pinco.catalog.store.access",
    "read_manifest": "pinco.catalog.manifest.readers",
}

__all__ = [
    "CatalogImage",
    "ImageMaker",
    "ModelSettings",
    "PincoAdapter",
    "PincoError",
    "StoreAccess",
    "__version__",
    "open_manifest",
    "open_store",
    "read_manifest",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
