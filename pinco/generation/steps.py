"""One row's way, from its photo to its line in the manifest: seven functions, in the order in which they happen.

    read_photo -> cut_out -> place_product            on a preprocessing actor, once per canvas
    encode -> generate                          on an inference actor, once per canvas and once per batch
    finish_image -> write_row                   on the inference actor, once per image

`prepare`, `sample` and `finish_rows` string them together for the actors, which finish images while the next ones are
sampled; `make_rows` is the latter two in one. An actor's `generate` is cut in two: latents are sampled in `sample` and
decoded in `finish_rows`.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pinco.catalog.delivery.encode import encode_image, pixels_sha256
from pinco.catalog.delivery.finish import finish, layer_to_srgb
from pinco.catalog.delivery.images import image_key
from pinco.catalog.delivery.provenance import Provenance
from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.pending import keep_image
from pinco.catalog.manifest.schema import Row
from pinco.catalog.quality.decision import decide
from pinco.catalog.quality.measures import core_identical
from pinco.catalog.store.base import ObjectNotFoundError, Store
from pinco.generation.cutouts import CutoutCache
from pinco.generation.faults import PhotoChangedError, PhotoMissingError
from pinco.generation.take import RunSpec, Take, canvas_key, failed_row
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas, Layer, compose, place
from preprocessing.cutout import Cutout
from preprocessing.decode import decode
from preprocessing.resample import resample

if TYPE_CHECKING:  # preprocessing actors do the first three steps without torch
    from pinco.generation.model import EncodedProduct, Model, Scores
    from pinco.pipelines.decoding import Latents


@dataclass(frozen=True)
class PlacedProduct:
    """The product where the sheet wants it.

    Attributes:
        canvas: At working size, for the backbone.
        layer: At delivery size, in the colours of `icc`, to be put back into the image.
        icc: Colour profile of the layer; None = sRGB.
        faithful: The layer's core equals that of the photo decoded again, which makes a later comparison a proof.
        mask_method: How the product was found in the photo.
        mask_confidence: How sure that is, 0..1.
    """

    canvas: Canvas
    layer: Layer
    icc: bytes | None
    faithful: bool
    mask_method: str
    mask_confidence: float


@dataclass(frozen=True)
class Finished:
    """A picture as delivered: pixels `[H, W, 3]`, file, and what was measured on the raw image before the paste."""

    identity: GenerationIdentity
    pixels: U8
    file: bytes
    core_identical: bool
    scores: Scores
    seconds: float


# -- the seven ---------------------------------------------------------------------------------------------------------


def read_photo(job: Job, spec: RunSpec) -> bytes:
    """The photo's bytes, and certainly those that the job was planned with."""
    try:
        photo = spec.access.read(job.source_uri)
    except ObjectNotFoundError as error:
        raise PhotoMissingError(
            "The photo was deleted or renamed after this image was planned. Put it back, or run the sheet again."
        ) from error
    if hashlib.sha256(photo).hexdigest() != job.source_sha256:
        raise PhotoChangedError("The photo was changed after this image was planned. Run the sheet again to use it.")
    return photo


def cut_out(photo: bytes, job: Job, cutouts: CutoutCache) -> Cutout:
    """The product without its background; made once per photo and recipe, then kept in the store."""
    return cutouts.get_or_make(photo, job.source_sha256)


def place_product(cutout: Cutout, photo: bytes, job: Job, spec: RunSpec) -> PlacedProduct:
    """The product on its canvas and, resampled once from its source, on the delivered picture."""
    box = place(cutout, job.placement, job.delivery_size)
    canvas = compose(cutout, job.placement, job.working_size, job.delivery_size)
    source = decode(photo, max_pixels=spec.recipe.max_pixels).rgb
    witness = replace(cutout, rgb=np.where(cutout.alpha[..., None] == 255, source, cutout.rgb))
    layer, expected = (resample(pixels, box, job.delivery_size) for pixels in (cutout, witness))
    faithful = core_identical(layer.rgb, expected)
    if spec.channels[job.channel].profile == "srgb":
        return PlacedProduct(canvas, layer_to_srgb(layer, cutout.icc), None, faithful, cutout.method, cutout.confidence)
    return PlacedProduct(canvas, layer, cutout.icc, faithful, cutout.method, cutout.confidence)


def encode(model: Model, placed: PlacedProduct, job: Job, spec: RunSpec) -> EncodedProduct:
    """What the channel's method knows of the product, subject tokens for example; kept for the next batches."""
    return model.encode(placed.canvas, canvas_key(job), spec.channels[job.channel].method)


def generate(model: Model, encoded: EncodedProduct, takes: Sequence[Take]) -> list[U8]:
    """The raw images `[h, w, 3]` of several prompts and seeds on one canvas, in one call."""
    return model.decode(_latents(model, encoded, takes))


def finish_image(
    raw: U8, placed: PlacedProduct, encoded: EncodedProduct, model: Model, identity: GenerationIdentity, spec: RunSpec
) -> Finished:
    """Measure the raw image, bring it to delivery size, put the product back, pack the file and look into it."""
    began = time.perf_counter()
    scores = model.score(raw, encoded)
    pixels = finish(raw, placed.layer, icc=placed.icc, shadow=spec.shadow)
    provenance = Provenance(identity.generation_id())
    file = encode_image(pixels, identity.format, quality=identity.quality, icc=placed.icc, provenance=provenance)
    delivered = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) if identity.format == "png" else pixels
    intact = placed.faithful and core_identical(delivered, placed.layer)
    return Finished(identity, pixels, file, intact, scores, time.perf_counter() - began)


def write_row(
    finished: Finished, take: Take, placed: PlacedProduct, model: Model, spec: RunSpec, store: Store, *, attempts: int
) -> Row:
    """Say in one row all there is to say about the image, and put both into the store, durably."""
    identity, scores = finished.identity, finished.scores
    generation_id = identity.generation_id()
    sha256 = hashlib.sha256(finished.file).hexdigest()
    decision = decide(
        identical=finished.core_identical,
        confidence=placed.mask_confidence,
        extension=scores.extension,
        shrinkage=scores.shrinkage,
        rules=spec.rules,
    )
    height, width = finished.pixels.shape[:2]
    row = Row.of(
        take.job,
        run_id=spec.run_id,
        status=decision.status,
        reason=decision.reason or None,
        attempts=attempts,
        generation_id=generation_id,
        seed=take.seed,
        image_uri=image_key(generation_id, sha256, identity.format),
        image_sha256=sha256,
        image_bytes=len(finished.file),
        pixels_sha256=pixels_sha256(finished.pixels),
        width=width,
        height=height,
        format=identity.format,
        core_identical=finished.core_identical,
        extension=scores.extension,
        shrinkage=scores.shrinkage,
        not_scored=scores.not_scored,
        mask_method=placed.mask_method,
        mask_confidence=placed.mask_confidence,
        backbone_sha256=identity.backbone_sha256,
        adapter_sha256=identity.adapter_sha256,
        method=identity.method,
        controlnet_sha256=identity.controlnet_sha256,
        recipe=Recipe(take.job.ask, identity).to_json(),
        seconds=round(finished.seconds, 3),
        **asdict(model.description()),
    )
    keep_image(store, row, finished.file, identity.format)
    return row


# -- strung together ---------------------------------------------------------------------------------------------------


def prepare(job: Job, spec: RunSpec, cutouts: CutoutCache) -> PlacedProduct:
    """The first three steps, for all takes that share this job's canvas."""
    photo = read_photo(job, spec)
    cutout = cut_out(photo, job, cutouts)
    return place_product(cutout, photo, job, spec)


@dataclass(frozen=True)
class Sampled:
    """Latents of images on one canvas, and how many seconds each of them took."""

    encoded: EncodedProduct
    latents: Latents
    seconds: float


def sample(takes: Sequence[Take], placed: PlacedProduct, model: Model, spec: RunSpec) -> Sampled:
    """`encode`, and `generate` up to the latents, for takes of one canvas: what one batch at a time does."""
    began = time.perf_counter()
    encoded = encode(model, placed, takes[0].job, spec)
    latents = _latents(model, encoded, takes)
    return Sampled(encoded, latents, (time.perf_counter() - began) / len(takes))


def _latents(model: Model, encoded: EncodedProduct, takes: Sequence[Take]) -> Latents:
    return model.sample(encoded, [(take.job.prompt, take.job.negative, take.seed) for take in takes])


def finish_rows(
    sampled: Sampled,
    takes: Sequence[Take],
    placed: PlacedProduct,
    model: Model,
    spec: RunSpec,
    store: Store,
    *,
    attempts: int = 1,
) -> list[Row]:
    """The decode and the last two steps. A decode fails for all; what fails in one image's finish fails that row alone.

    Raises:
        DeviceMemoryError: There is no memory to decode in.
        AcceleratorFaultError: The device itself fails.
    """
    rows = []
    began = time.perf_counter()
    raws = model.decode(sampled.latents)
    seconds = sampled.seconds + (time.perf_counter() - began) / len(takes)
    for take, raw in zip(takes, raws, strict=True):
        try:
            finished = finish_image(raw, placed, sampled.encoded, model, identity_of(take, model, spec), spec)
            finished = replace(finished, seconds=finished.seconds + seconds)
            rows.append(write_row(finished, take, placed, model, spec, store, attempts=attempts))
        except Exception as error:
            rows.append(failed_row(take.job, spec.run_id, error, attempts=attempts))
    return rows


def make_rows(
    takes: Sequence[Take], placed: PlacedProduct, model: Model, spec: RunSpec, store: Store, *, attempts: int = 1
) -> list[Row]:
    """`sample` and `finish_rows`, one after the other."""
    return finish_rows(sample(takes, placed, model, spec), takes, placed, model, spec, store, attempts=attempts)


def identity_of(take: Take, model: Model, spec: RunSpec) -> GenerationIdentity:
    """Everything that decides this image's pixels and file."""
    channel = spec.channels[take.job.channel]
    return GenerationIdentity.of(
        model.identity(channel.method),
        job_id=take.job.job_id,
        seed=take.seed,
        cutout_recipe=spec.recipe.version(),
        shadow=spec.shadow,
        working_size=take.job.working_size,
        delivery_size=take.job.delivery_size,
        format=channel.format,
        quality=channel.quality,
        profile=channel.profile,
        vae_tiling=model.tiles(take.job.working_size),
    )
