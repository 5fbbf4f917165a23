"""The identity of a generation: everything that decides an image's pixels and file, and the id that is its hash.

Two images with one generation id are the same bytes on the same kind of processor. The same JSON, the recipe, is kept
in the image's manifest row: replay needs nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from pinco.catalog.ids.canonical import canonical_json, canonical_sha256
from pinco.catalog.ids.job import MAX_SEED, Ask, Size
from pinco.knobs import Knobs
from pinco.method_names import BARE
from preprocessing.canvas import RESAMPLE

GENERATION_CODE = 1
"""Raised with every change of code that changes pixels or files for the same settings."""

ImageFormat = Literal["png", "jpeg", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")

_LATER = {"quantise": "none", "compile": False, "cache": "none", "vae_tiling": False, "controlnet_sha256": None}
"""Fields that older recipes do not have, with what held before: left out where it still holds, so that ids stay."""

_FLOATS = ("guidance", "true_cfg", "adapter_scale")


@dataclass(frozen=True, kw_only=True)
class ModelIdentity(Knobs):
    """What the model and its settings contribute to the pixels: the knobs, and the weights by their hashes.

    Attributes:
        max_sequence_length: Tokens of the prompt that the text encoder reads.
        scheduler: Class name of the noise scheduler.
        dtype: Number format that the backbone computes in.
        prune: Whether subject tokens are kept only under the mask.
        adapter_scale: Strength of the adapter, 0..1.
        backbone_sha256: Hash of the backbone's configuration and sorted tensors.
        adapter_sha256: The same of the adapter; None where the method does not use one.
        quantise: Number format of the transformer's linear weights, "none" = `dtype`.
        compile: Whether the transformer's blocks were compiled.
        cache: What steps took over from earlier ones, "none" = nothing.
        method: By what the image came to match its product (`pinco.method_names`). Recipes of before there were several
            name none: theirs was pinco with an adapter, and without one the bare backbone.
        controlnet_sha256: Hash of the ControlNet; None where the method does not use one.
    """

    max_sequence_length: int
    scheduler: str
    dtype: str
    prune: bool
    adapter_scale: float
    backbone_sha256: str
    adapter_sha256: str | None
    quantise: str = "none"
    compile: bool = False
    cache: str = "none"
    method: str = ""
    controlnet_sha256: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "method", self.method or self._method_without_a_name())
        for name in _FLOATS:
            object.__setattr__(self, name, float(getattr(self, name)))

    def _method_without_a_name(self) -> str:
        return BARE if self.adapter_sha256 is None else "pinco"


@dataclass(frozen=True, kw_only=True)
class GenerationIdentity(ModelIdentity):
    """What decides the pixels and the file, beside the ask itself (which is in here through its `job_id`).

    Attributes:
        job_id: Hash of what was asked.
        seed: The seed used; a retry takes a new one, so it may differ from the ask's.
        cutout_recipe: `CutoutRecipe.version()`, which covers the mask, depth and Sobel recipes.
        shadow: Name of the shadow recipe, "none" without one.
        working_size: (width, height) in pixels that the backbone makes.
        delivery_size: (width, height) in pixels of the file.
        format: File format.
        quality: 1..100 for JPEG and WebP; for PNG it has no effect, but is part of what was asked.
        profile: "source" keeps the photo's colour profile in the file, "srgb" converts to it.
        resample: Name of the product's resample (`preprocessing.canvas.RESAMPLE`).
        code_recipe: Version of the code that makes pixels and files.
        vae_tiling: Whether the VAE worked in tiles.
    """

    job_id: str
    seed: int
    cutout_recipe: str
    shadow: str
    working_size: Size
    delivery_size: Size
    format: ImageFormat
    quality: int
    profile: Literal["source", "srgb"] = "source"
    resample: str = RESAMPLE
    code_recipe: int = GENERATION_CODE
    vae_tiling: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("working_size", "delivery_size"):
            object.__setattr__(self, name, tuple(int(side) for side in getattr(self, name)))
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be between 0 and {MAX_SEED}, not {self.seed}")
        if self.format not in IMAGE_FORMATS:
            raise ValueError(f"format must be one of {', '.join(IMAGE_FORMATS)}, not {self.format!r}")

    @classmethod
    def of(cls, model: ModelIdentity, **rest: Any) -> Self:
        """The identity of one image of a model; `rest` are the remaining fields by name."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(ModelIdentity)}, **rest)

    def generation_id(self) -> str:
        """64 hex digits: sha256 of the canonical JSON of every field."""
        return canonical_sha256(self.spelled())

    def spelled(self) -> dict[str, Any]:
        """Every field by its name, without the later ones where they say nothing new."""
        later = {**_LATER, "method": self._method_without_a_name()}
        return {name: value for name, value in asdict(self).items() if (name, value) not in later.items()}


@dataclass(frozen=True)
class Recipe:
    """Everything that replay needs besides the photo and the weights: the ask, and how it was carried out."""

    ask: Ask
    generation: GenerationIdentity

    def to_json(self) -> str:
        """Canonical JSON, as kept in the manifest's `recipe` column."""
        return canonical_json({"ask": self.ask.asked(), "generation": self.generation.spelled()})

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read a `recipe` column.

        Raises:
            ValueError: when the text is not a recipe, or its ask is not the one that its generation names.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            ask = Ask.from_dict(fields["ask"])
            recipe = cls(ask, GenerationIdentity(**fields["generation"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a recipe that this version of Pinco can read: {error}") from error
        if ask.job_id != recipe.generation.job_id:
            raise ValueError("the recipe contradicts itself: its ask has not the job id that its generation names")
        return recipe
