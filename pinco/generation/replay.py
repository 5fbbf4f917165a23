"""An image made again from its manifest row alone: photo, recipe and weights. Imports neither Ray nor Prefect."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pinco.catalog.delivery.encode import pixels_sha256
from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.manifest.readers import find_generation
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.quality.measures import psnr
from pinco.catalog.sheet.channels import Channel
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.errors import PincoError
from pinco.generation.builtin import NAME
from pinco.generation.cutouts import CutoutCache
from pinco.generation.settings import ModelSettings
from pinco.generation.steps import encode, finish_image, generate, identity_of, prepare
from pinco.generation.take import RunSpec, Take
from pinco.knobs import knobs_of
from pinco.method_names import BARE
from preprocessing.arrays import U8

if TYPE_CHECKING:
    pass


class ReplayError(PincoError, ValueError):
    """Something that decides the image is not what it was."""

    code = "cannot_replay"


@dataclass(frozen=True)
class Replayed:
    """The image, and how it compares: same file, same pixels, same product, and the PSNR in dB of what differs."""

    row: Row
    file: bytes
    same_file: bool
    same_pixels: bool
    core_identical: bool
    psnr: float


def replay(
    store_uri: str,
    generation_id: str,
    settings: ModelSettings,
    *,
    access: StoreAccess = DEFAULT_ACCESS,
    threads: int = 1,
) -> Replayed:
    """Make an image again and compare it with the stored one.

    Args:
        store_uri: The store.
        generation_id: Of the image; its first digits are enough.
        settings: The weights, where they are not the built-in ones; everything else comes from the image's row.
        access: How the store is reached.
        threads: CPU threads, where the row does not say.

    Raises:
        UnknownGenerationError: No image has this id, or several begin like it.
        StoreError: The store, the photo, or the stored image cannot be read.
        PhotoChangedError: The photo is not the one that the image was made from.
        PhotoMissingError: The photo is gone.
        ReplayError: Weights or recipes differ; it names which.
    """
    store = access.open(store_uri)
    row = find_generation(ManifestTable(store), generation_id)
    if row.recipe is None or row.image_uri is None:
        raise ReplayError(f"{row.generation_id} has no image: its row is {row.status}")
    from pinco.generation.model import Model  # torch takes seconds; a wrong id is said before

    recipe = Recipe.from_json(row.recipe)
    take, asked = Take(row.job(), recipe.generation.seed), recipe.generation
    spec = _spec(row, asked, store_uri, access)
    model = Model(_model_settings(row, asked, settings), threads=row.threads or threads)
    _check(asked, identity_of(take, model, spec))

    placed = prepare(take.job, spec, CutoutCache(None, spec.recipe))
    encoded = encode(model, placed, take.job, spec)
    (raw,) = generate(model, encoded, [take])
    finished = finish_image(raw, placed, encoded, model, asked, spec)
    stored = store.get(key_of_image(row.image_uri))
    return Replayed(
        row=row,
        file=finished.file,
        same_file=finished.file == stored,
        same_pixels=pixels_sha256(finished.pixels) == row.pixels_sha256,
        core_identical=finished.core_identical,
        psnr=_psnr_to_stored(finished.pixels, stored),
    )


def _spec(row: Row, asked: GenerationIdentity, store_uri: str, access: StoreAccess) -> RunSpec:
    """The run's settings as the row has them, not as they are today."""
    channel = Channel(row.channel, asked.delivery_size, asked.format, asked.quality, asked.profile, asked.method)
    return RunSpec(
        run_id=row.run_id,
        store_uri=store_uri,
        channels={row.channel: channel},
        access=access,
        shadow="contact-1" if asked.shadow == "contact-1" else "none",
    )


def _model_settings(row: Row, asked: GenerationIdentity, today: ModelSettings) -> ModelSettings:
    """Weights from today's settings or the row, everything that was chosen for the image from its recipe."""
    backbone = today.backbone or (None if row.backbone == NAME else row.backbone)
    return ModelSettings.model_validate(
        today.model_dump()
        | {
            "backbone": backbone,
            "dtype": asked.dtype,
            "method": "auto",  # the image's own is the channel's
            "adapter": None if asked.method == BARE else today.adapter,
            "preset": None,
            "quantise": asked.quantise,
            "compile": asked.compile,
            "cache": asked.cache,
            "vae_tiling": "on" if asked.vae_tiling else "off",
            **knobs_of(asked),
        }
    )


def _check(then: GenerationIdentity, now: GenerationIdentity) -> None:
    differing = [
        f"{field.name}: {getattr(then, field.name)!r} then, {getattr(now, field.name)!r} now"
        for field in fields(GenerationIdentity)
        if getattr(then, field.name) != getattr(now, field.name)
    ]
    if differing:
        raise ReplayError(
            "this image cannot be made again with what is here:\n  "
            + "\n  ".join(differing)
            + "\nName the weights that made it with --backbone, --adapter and --controlnet, or use the Pinco version "
            "that made it."
        )


def _psnr_to_stored(pixels: U8, file: bytes) -> float:
    """PSNR in dB of `pixels` `[H, W, 3]` to a stored picture; infinite where they are equal."""
    stored = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    if stored.shape != pixels.shape:
        raise ReplayError(
            f"the stored picture is {stored.shape[1]} x {stored.shape[0]}, this one "
            f"{pixels.shape[1]} x {pixels.shape[0]}"
        )
    return psnr(pixels, stored)
