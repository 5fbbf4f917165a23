"""What is asked of a pipeline for one image."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class GenerationRequest:
    """One image of a canvas. `GenerationDefaults.request` fills in a backbone's usual settings.

    seed: 0 to 2^63 - 1; decides the noise, whatever the device.
    steps: denoising steps.
    guidance: guidance scale of a guidance-distilled backbone; ignored by others.
    true_cfg: classifier-free guidance with a second call; 1 is off. `negative=None` then stands for the empty prompt.
    blending: replace the product's region by the noised product after every step (Blended Latent Diffusion, arXiv
        2206.02779), the baseline that the adapter is measured against.

    Raises `ValueError` for values out of range, `TypeError` for a seed or a number of steps that is no whole number.
    """

    prompt: str
    negative: str | None
    seed: int
    steps: int
    guidance: float
    true_cfg: float
    blending: bool

    def __post_init__(self) -> None:
        for name in ("seed", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed must lie between 0 and {LARGEST_SEED}, not {self.seed}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ValueError(f"guidance must be 0 or more, not {self.guidance}")
        if not (math.isfinite(self.true_cfg) and self.true_cfg >= 1):
            raise ValueError(f"true_cfg must be 1 (off) or more, not {self.true_cfg}")
