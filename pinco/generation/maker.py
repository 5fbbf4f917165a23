"""Catalog images without a sheet, a store or a cluster: a photo and a prompt in, a finished image out.

The steps are those of a run (`pinco.generation.steps`); the same inputs give the same pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pinco.catalog.ids.identity import Recipe
from pinco.catalog.ids.job import Job, Size
from pinco.catalog.quality.decision import QualityRules, decide
from pinco.catalog.sheet.channels import Channel
from pinco.generation.cutouts import CutoutCache
from pinco.generation.settings import ModelSettings
from pinco.generation.steps import PlacedProduct, cut_out, encode, finish_image, generate, identity_of, place_product
from pinco.generation.take import RunSpec, Take
from pinco.generation.weights import canvas_size
from preprocessing.arrays import U8
from preprocessing.canvas import Placement, working_size

if TYPE_CHECKING:
    from pinco.generation.model import Model

CHANNEL = "image"


@dataclass(frozen=True)
class CatalogImage:
    """One finished image.

    Attributes:
        pixels: `[H, W, 3]`, in the colours of the photo's profile, or sRGB.
        file: The encoded image, with colour profile and provenance.
        raw: `[h, w, 3]`, what the model made, before the product was put back.
        status: "ok", "review" or "rejected", by the checks of a run.
        reason: Why it is not "ok"; empty if it is.
        core_identical: Whether the product's opaque pixels are those of the photo, or of its one named resample.
        extension: Growth of the product in the raw image, as a share of its area; None where there is no instrument.
        mask_confidence: How sure the product's mask is, 0..1.
        generation_id: Hash of everything that decides pixels and file.
        recipe: JSON of the same, for a later replay.
    """

    pixels: U8
    file: bytes
    raw: U8
    status: Literal["ok", "review", "rejected"]
    reason: str
    core_identical: bool
    extension: float | None
    mask_confidence: float
    generation_id: str
    recipe: str


class ImageMaker:
    """A loaded model that makes catalog images from photos and prompts. Photos that come again are cut out once."""

    def __init__(
        self, settings: ModelSettings | None = None, *, threads: int = 1, rules: QualityRules | None = None
    ) -> None:
        """Load the weights.

        Args:
            settings: Which weights, and how; None = the built-in model.
            threads: CPU threads; the bytes of an image made on a CPU depend on it.
            rules: Limits of the checks.

        Raises:
            FileNotFoundError: A folder of weights is not there.
            ValueError: A folder holds something else.
        """
        from pinco.generation.model import Model  # torch takes seconds to import

        self._settings = settings or ModelSettings()
        self._model: Model = Model(self._settings, threads=threads)
        self._spec = RunSpec(run_id="", store_uri="", channels={}, rules=rules or QualityRules())
        self._cutouts = CutoutCache(None, self._spec.recipe)

    def make(
        self,
        photo: bytes,
        prompt: str,
        *,
        negative: str | None = None,
        seed: int | None = None,
        size: Size = (512, 512),
        placement: Placement | None = None,
        format: Literal["png", "jpeg", "webp"] = "png",
        quality: int = 90,
    ) -> CatalogImage:
        """Make one image.

        Args:
            photo: The product photo's file.
            prompt: What the image shall show.
            negative: What it shall not show.
            seed: Decides the noise, 0 to 2^32 - 1; None = derived from everything else, the same every time.
            size: (width, height) of the image in pixels.
            placement: Where the product stands; None = as in the photo.
            format: File format; PNG is lossless.
            quality: 1..100, for JPEG and WebP.

        Raises:
            PhotoError: The photo cannot be used.
            DeviceMemoryError: The image does not fit into the device's memory.
        """
        channel = Channel(CHANNEL, size, format, quality)
        spec = RunSpec(
            run_id="", store_uri="", channels={CHANNEL: channel}, recipe=self._spec.recipe, rules=self._spec.rules
        )
        wanted = canvas_size(self._settings)
        job = Job.planned(
            row=1,
            source_uri="",
            sku="",
            source_sha256=hashlib.sha256(photo).hexdigest(),
            prompt=prompt,
            negative=negative,
            channel=CHANNEL,
            placement=placement or Placement(),
            working_size=working_size(size, wanted.pixels, wanted.multiple),
            delivery_size=size,
            variant=0,
            seed=seed,
        )
        placed = place_product(cut_out(photo, job, self._cutouts), photo, job, spec)
        return self._finish(Take.first(job), placed, spec)

    def _finish(self, take: Take, placed: PlacedProduct, spec: RunSpec) -> CatalogImage:
        encoded = encode(self._model, placed, take.job, spec)
        (raw,) = generate(self._model, encoded, [take])
        identity = identity_of(take, self._model, spec)
        finished = finish_image(raw, placed, encoded, self._model, identity, spec)
        decision = decide(
            identical=finished.core_identical,
            confidence=placed.mask_confidence,
            extension=finished.scores.extension,
            shrinkage=finished.scores.shrinkage,
            rules=spec.rules,
        )
        return CatalogImage(
            finished.pixels,
            finished.file,
            raw,
            decision.status,
            decision.reason,
            finished.core_identical,
            finished.scores.extension,
            placed.mask_confidence,
            identity.generation_id(),
            Recipe(take.job.ask, identity).to_json(),
        )
