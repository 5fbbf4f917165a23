"""The one latent blender of all families: after each step the product's region becomes the noised product again.

Blended Latent Diffusion (Avrahami et al., arXiv 2206.02779), as the step-end callback that every diffusers pipeline
takes. The method blend lives on it; for the others it is a knob, to measure what it adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from pinco.pipelines.encoded import map_tensor

if TYPE_CHECKING:
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas

Renoise = Callable[[Any, int, Tensor, Tensor], Tensor]
"""`(scheduler, step, clean, noise)` to the clean latents as noisy as the scheduler leaves them after that step."""


def renoise_flow(scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
    """Rectified flow: `(1 - sigma) x0 + sigma eps` at the sigma that follows the step; the last one is zero."""
    sigma: Tensor = scheduler.sigmas[step + 1].to(clean)
    return (1 - sigma) * clean + sigma * noise


def latent_mask(alpha: Tensor, vae_scale_factor: int) -> Tensor:
    """A soft mask at latent resolution: the covered share of each latent pixel.

    Args:
        alpha: `[B, 1, H, W]` in 0..1.
        vae_scale_factor: Pixels per latent pixel along one side.

    Returns:
        `[B, 1, h, w]`.
    """
    return F.avg_pool2d(alpha, vae_scale_factor)


def known_latents(pipeline: PincoPipeline, canvas: Canvas, latents: Tensor) -> tuple[Tensor, Tensor]:
    """What is blended in, and where, laid out as the pipeline's latents.

    Args:
        pipeline: Gives family and sizes.
        canvas: Gives the mask.
        latents: `[B, C, h, w]` of the product on a ground.

    Returns:
        The latents in float32, and the product's share of each of their values.
    """
    dims, family = pipeline.dims, pipeline.family
    alpha = map_tensor(canvas)[:, :1].to(latents.device)
    mask = latent_mask(alpha, dims.vae_scale_factor).expand(-1, latents.shape[1], -1, -1)
    return family.in_the_loop(latents.float(), dims), family.in_the_loop(mask, dims)


@dataclass(frozen=True)
class StepEndBlender:
    """Goes to a diffusers pipeline as `callback_on_step_end`.

    The tensors are laid out like the pipeline's own latents, packed or not, and broadcast against them.

    Attributes:
        clean: Latents of the product on a neutral (or matching) ground; on black, the edge's latents would pull a dark
            rim into the image.
        noise: The noise that generation started from.
        mask: 1 where the product is.
        renoise: Makes the clean latents as noisy as the scheduler leaves them after a step.
    """

    clean: Tensor
    noise: Tensor
    mask: Tensor
    renoise: Renoise = renoise_flow

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Blend `tensors["latents"]`, computing in the mask's dtype."""
        latents = tensors["latents"]
        known = self.renoise(pipe.scheduler, step, self.clean, self.noise)
        blended = self.mask * known + (1 - self.mask) * latents.to(self.mask.dtype)
        return {"latents": blended.to(latents.dtype)}
