from __future__ import annotations

from types import SimpleNamespace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pinco.pipelines.blending import StepEndBlender, latent_mask, renoise_flow


def _scheduler(steps: int = 4) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    return scheduler


def test_renoising_is_the_schedulers_own() -> None:
    scheduler = _scheduler()
    clean, noise = torch.randn(2, 1, 6, 8)
    for step in range(3):
        wanted = scheduler.scale_noise(clean, scheduler.timesteps[step + 1 : step + 2], noise)
        torch.testing.assert_close(renoise_flow(scheduler, step, clean, noise), wanted)


def test_after_the_last_step_the_known_region_is_clean() -> None:
    clean, noise = torch.randn(2, 1, 6, 8)
    assert torch.equal(renoise_flow(_scheduler(4), 3, clean, noise), clean)


def test_only_the_masked_part_is_replaced_softly() -> None:
    clean, noise, latents = torch.randn(3, 1, 3, 8)
    mask = torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1)
    blender = StepEndBlender(clean, noise, mask)
    blended = blender(SimpleNamespace(scheduler=_scheduler(4)), 3, None, {"latents": latents})["latents"]
    assert torch.equal(blended[:, 0], latents[:, 0])
    torch.testing.assert_close(blended[:, 1], 0.25 * clean[:, 1] + 0.75 * latents[:, 1])
    assert torch.equal(blended[:, 2], clean[:, 2])


def test_one_canvas_blends_into_a_batch_in_the_latents_dtype() -> None:
    blender = StepEndBlender(torch.randn(1, 3, 8), torch.randn(2, 3, 8), torch.ones(1, 3, 8))
    latents = torch.randn(2, 3, 8).bfloat16()
    blended = blender(SimpleNamespace(scheduler=_scheduler()), 0, None, {"latents": latents})["latents"]
    assert blended.shape == latents.shape and blended.dtype == torch.bfloat16


def test_another_family_brings_its_own_renoising() -> None:
    blender = StepEndBlender(
        torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), lambda *_: torch.tensor(7.0)
    )
    assert float(blender(SimpleNamespace(scheduler=None), 0, None, {"latents": torch.zeros(1, 1, 1)})["latents"]) == 7.0


def test_the_mask_is_the_covered_share_of_each_latent_pixel() -> None:
    alpha = torch.zeros(1, 1, 16, 16)
    alpha[..., :8, :4] = 1
    assert latent_mask(alpha, 8).tolist() == [[[[0.5, 0.0], [0.0, 0.0]]]]
