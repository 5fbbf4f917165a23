"""Foreground-conditioned inpainting on Flux, over diffusers' text-to-image `FluxPipeline`.

diffusers' inpainting pipelines blend the known region in at every step and cannot be told not to; this one leaves the
sampling alone and lets the adapter's attention keep the product where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families.flux import PATCH_SIZE
from pinco.adapter.tokens import pack
from pinco.knobs import knobs_of
from pinco.pipelines.blending import StepEndBlender, latent_mask
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.encoded import EncodedCanvas, check_size, image_tensor, map_tensor
from pinco.pipelines.progress import no_progress_bars
from pinco.pipelines.prompts import PromptCache, PromptEmbedding
from pinco.pipelines.request import GenerationRequest
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas

DEV = GenerationDefaults(steps=28, guidance=3.5, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)
SCHNELL = GenerationDefaults(steps=4, guidance=0.0, true_cfg=1.0, max_sequence_length=256, working_pixels=1024 * 1024)


class FluxPincoPipeline:
    """Canvases and requests in, raw images out. Pasting the product back is left to the caller, after measuring."""

    def __init__(
        self,
        pipe: FluxPipeline,
        adapter: PincoAdapter | None = None,
        defaults: GenerationDefaults | None = None,
        *,
        one_at_a_time: bool | None = None,
        remembered_prompts: int = 64,
    ) -> None:
        """Put the pipeline over a loaded backbone; an adapter that is not attached yet gets attached.

        Without an adapter it is the bare backbone: the baseline. Unless given, `defaults` are those of FLUX.1 dev or
        schnell, whichever the backbone resembles. Raises what `PincoAdapter.attach` raises, and `ValueError` for an
        adapter that is attached to another backbone.

        one_at_a_time: give every image the transformer to itself, so that its bytes do not depend on what else is in
            the call; `None` does so on the CPU and batches elsewhere.
        """
        self.pipe = pipe
        self._one_at_a_time = one_at_a_time
        self.adapter = adapter
        self.defaults = defaults or _family_defaults(pipe)
        if adapter is not None:
            if not adapter.attached:
                adapter.attach(pipe.transformer)
            elif not adapter.attached_to(pipe.transformer):
                raise ValueError("the adapter is attached to another backbone than the pipeline's; detach it first")
        for part in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.transformer):
            part.eval()  # a T5 made by hand is born with its dropout on
        pipe.set_progress_bar_config(disable=True)
        self.prompts = PromptCache(self._encode_prompt, remembered_prompts)

    @classmethod
    def from_pretrained(
        cls,
        backbone: str | Path,
        adapter: str | Path | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        local_files_only: bool = True,
    ) -> Self:
        """Load a backbone, and an adapter onto it, from folders (or hub ids, with `local_files_only=False`).

        dtype: "float32", "bfloat16" or "float16", of the backbone; the adapter's projections are cast with it.
        Raises `ValueError` for another dtype, for a folder that holds another kind of pipeline and for an adapter of
        another backbone, `OSError` where nothing can be loaded.
        """
        kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if dtype not in kinds:
            raise ValueError(f"dtype must be one of {', '.join(kinds)}, not {dtype!r}")
        kind = FluxPipeline.load_config(str(backbone), local_files_only=local_files_only)["_class_name"]
        if kind != FluxPipeline.__name__:
            raise ValueError(f"{backbone} holds a {kind}; FluxPincoPipeline needs a {FluxPipeline.__name__}")
        loading = {"dtype": kinds[dtype], "local_files_only": local_files_only}
        with no_progress_bars():
            pipe = FluxPipeline.from_pretrained(str(backbone), **loading).to(device)
            loaded = None if adapter is None else PincoAdapter.from_pretrained(str(adapter), **loading).to(device)
        return cls(pipe, loaded, GenerationDefaults.read(backbone, _family_defaults(pipe)))

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        device: torch.device = self.pipe._execution_device
        return device

    @torch.no_grad()
    def encode_canvas(self, canvas: Canvas) -> EncodedCanvas:
        """Everything that the images of a canvas share: the VAE's latents, subject tokens, keys and values.

        Raises `ValueError` for a canvas whose sides are no multiples of the token's pixels, or without a product.
        """
        scale = self.pipe.vae_scale_factor
        size = check_size(canvas, scale * PATCH_SIZE)
        latents = self._vae_encode(image_tensor(canvas))
        maps = map_tensor(canvas).to(latents)
        subject = None
        if self.adapter is not None:
            shape_latents = None
            if self.adapter.settings.shape == "vae":
                shape_latents = self._vae_encode(self.adapter.extractor.shape_image(maps))
            subject = self.adapter.encode(latents, maps, shape_latents=shape_latents, cache=True)
        mask = latent_mask(maps[:, :1].float(), scale).expand(-1, latents.shape[1], -1, -1)
        return EncodedCanvas(size, subject, pack(latents.float(), PATCH_SIZE), pack(mask, PATCH_SIZE))

    @torch.no_grad()
    def generate(self, encoded: EncodedCanvas, requests: Sequence[GenerationRequest]) -> list[U8]:
        """The raw image `[h, w, 3]` of every request, in their order.

        Unless each image has the transformer to itself, requests with equal settings go through in one batch.
        """
        images: dict[int, U8] = {}
        for group in self._groups(requests):
            made = self._generate_alike(encoded, [requests[number] for number in group])
            images.update(zip(group, made, strict=True))
        return [images[number] for number in range(len(requests))]

    def _groups(self, requests: Sequence[GenerationRequest]) -> list[list[int]]:
        alone = self.device.type == "cpu" if self._one_at_a_time is None else self._one_at_a_time
        if alone:
            return [[number] for number in range(len(requests))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(tuple(knobs_of(request).values()), []).append(number)
        return list(groups.values())

    def _generate_alike(self, encoded: EncodedCanvas, requests: Sequence[GenerationRequest]) -> list[U8]:
        first = requests[0]
        noise = torch.cat([self._noise(request.seed, encoded.size) for request in requests]).to(self.device)
        inputs = self._prompt_inputs([request.prompt for request in requests], prefix="")
        if first.true_cfg > 1:
            inputs |= self._prompt_inputs([request.negative or "" for request in requests], prefix="negative_")
        if encoded.subject is not None:
            inputs["joint_attention_kwargs"] = {"subject": encoded.subject.expand(len(requests))}
        if first.blending:
            inputs["callback_on_step_end"] = StepEndBlender(encoded.clean, noise, encoded.mask)
        width, height = encoded.size
        (images,) = self.pipe(
            **inputs,
            latents=noise,
            width=width,
            height=height,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance,
            true_cfg_scale=first.true_cfg,
            output_type="np",
            return_dict=False,
        )
        return [np.asarray(np.rint(image * 255.0), np.uint8) for image in images]

    def _noise(self, seed: int, size: tuple[int, int]) -> Tensor:
        """Packed noise `[1, N, C p p]`, always drawn in float32 on the CPU: the same on every device."""
        scale, channels = self.pipe.vae_scale_factor, self.pipe.vae.config.latent_channels
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (1, channels, size[1] // scale, size[0] // scale)
        return pack(torch.randn(shape, generator=generator, dtype=torch.float32), PATCH_SIZE)

    def _vae_encode(self, image: Tensor) -> Tensor:
        """The mode of the VAE's latents, shifted and scaled as the transformer takes them."""
        vae = self.pipe.vae
        latents = vae.encode(image.to(vae.device, vae.dtype)).latent_dist.mode()
        shifted: Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        return shifted

    def _prompt_inputs(self, prompts: Sequence[str], prefix: str) -> dict[str, Any]:
        embeddings = [self.prompts[prompt] for prompt in prompts]
        return {
            f"{prefix}prompt_embeds": torch.cat([embedding.tokens for embedding in embeddings]),
            f"{prefix}pooled_prompt_embeds": torch.cat([embedding.pooled for embedding in embeddings]),
        }

    @torch.no_grad()
    def _encode_prompt(self, prompt: str) -> PromptEmbedding:
        tokens, pooled, _ = self.pipe.encode_prompt(prompt, max_sequence_length=self.defaults.max_sequence_length)
        return PromptEmbedding(tokens, pooled)


def _family_defaults(pipe: FluxPipeline) -> GenerationDefaults:
    return DEV if pipe.transformer.config.guidance_embeds else SCHNELL
