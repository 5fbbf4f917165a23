"""Flow-matching loss on packed latents, and its split by region.

Rectified flow (Esser et al. 2024, arXiv 2403.03206): `x_t = (1 - sigma) x0 + sigma eps`, target `eps - x0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_density_for_timestep_sampling


@dataclass(frozen=True)
class Noised:
    """One noised batch.

    Attributes:
        x_t: `[B, N, D]`, what the transformer sees.
        target: `[B, N, D]`, the velocity it should predict.
        sigma: `[B]`, noise level, 0 (clean) to 1.
    """

    x_t: torch.Tensor
    target: torch.Tensor
    sigma: torch.Tensor

    def to(self, device: torch.device) -> Noised:
        """The same on `device`."""
        return Noised(self.x_t.to(device), self.target.to(device), self.sigma.to(device))


def shifted(u: torch.Tensor, shift: float) -> torch.Tensor:
    """Timestep shift of arXiv 2403.03206, equation 23; `shift=1` leaves `u` as it is."""
    return shift * u / (1 + (shift - 1) * u)


def add_noise(x0: torch.Tensor, generator: torch.Generator, *, shift: float = 1.0) -> Noised:
    """Draw noise and logit-normal noise levels for clean packed latents `[B, N, D]`.

    Args:
        x0: clean latents.
        generator: CPU generator; noise is the same on every device.
        shift: timestep shift of the backbone's scheduler.
    """
    u = compute_density_for_timestep_sampling("logit_normal", len(x0), 0.0, 1.0, generator=generator)
    sigma = shifted(u.float(), shift).to(x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0.device)
    s = sigma[:, None, None]
    return Noised((1 - s) * x0 + s * noise, noise - x0, sigma)


def token_cover(alpha: torch.Tensor, pixels: int) -> torch.Tensor:
    """Share of every token's pixels that the product covers.

    Args:
        alpha: `[B, 1, H, W]`, 0..1.
        pixels: side of a token in pixels (VAE factor x patch).

    Returns:
        `[B, N]` in row-major token order, 0..1.
    """
    return F.avg_pool2d(alpha, pixels).flatten(1)


def region_of(cover: torch.Tensor, grid: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Tokens of the three regions: subject (mostly product), background (none), boundary ring (between the two).

    Args:
        cover: `[B, N]` from `token_cover`.
        grid: token rows and columns, `rows * columns == N`.

    Returns:
        name -> float `[B, N]`, 0 or 1; every token is in exactly one region.
    """
    near = F.max_pool2d((cover > 0).float().unflatten(1, grid)[:, None], 3, 1, 1).flatten(1) > 0
    subject = cover > 0.9
    background = ~near
    return {"subject": subject.float(), "boundary": (near & ~subject).float(), "background": background.float()}


def flow_matching_loss(prediction: torch.Tensor, noised: Noised, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Weighted mean square error in float32.

    Args:
        prediction: `[B, N, D]`.
        noised: from `add_noise`.
        weight: `[B, N]` token weights; None weighs all alike.
    """
    error = (prediction.float() - noised.target.float()).square().mean(-1)
    loss: torch.Tensor = error.mean() if weight is None else (error * weight).sum() / weight.sum()
    return loss


def split_by_region(
    prediction: torch.Tensor, noised: Noised, cover: torch.Tensor, grid: tuple[int, int]
) -> dict[str, tuple[float, float]]:
    """Sum of the square error and count of tokens in each region, which can be added over batches of any size."""
    error = (prediction.float() - noised.target.float()).square().mean(-1)
    return {
        name: (float((error * tokens).sum()), float(tokens.sum())) for name, tokens in region_of(cover, grid).items()
    }
