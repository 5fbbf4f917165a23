from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinco.training.losses import (
    Noised,
    add_noise,
    flow_matching_loss,
    region_of,
    shifted,
    split_by_region,
    token_cover,
)


def _clean(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 6, 5, generator=torch.Generator().manual_seed(1))


def _noised(**options: float) -> tuple[torch.Tensor, Noised]:
    x0 = _clean()
    return x0, add_noise(x0, torch.Generator().manual_seed(2), **options)


def test_x_t_and_target_are_rectified_flow() -> None:
    x0, noised = _noised()
    sigma = noised.sigma[:, None, None]
    noise = noised.target + x0
    torch.testing.assert_close(noised.x_t, (1 - sigma) * x0 + sigma * noise)
    # Walking back along the target from x_t ends at the clean latents, walking on ends at the noise.
    torch.testing.assert_close(noised.x_t - sigma * noised.target, x0)
    torch.testing.assert_close(noised.x_t + (1 - sigma) * noised.target, noise)


def test_noise_levels_are_one_a_sample_inside_0_to_1_and_logit_normal() -> None:
    sigma = add_noise(torch.zeros(4000, 1, 1), torch.Generator().manual_seed(0)).sigma
    assert sigma.shape == (4000,)
    assert sigma.dtype == torch.float32
    assert bool(((sigma > 0) & (sigma < 1)).all())
    logit = torch.logit(sigma)
    assert logit.mean().item() == pytest.approx(0.0, abs=0.06)
    assert logit.std().item() == pytest.approx(1.0, abs=0.06)


def test_noise_is_standard_normal_and_depends_on_the_generator_alone() -> None:
    x0 = torch.zeros(50, 40, 8)
    one, two = (add_noise(x0, torch.Generator().manual_seed(3)) for _ in range(2))
    other = add_noise(x0, torch.Generator().manual_seed(4))
    assert torch.equal(one.x_t, two.x_t)
    assert torch.equal(one.sigma, two.sigma)
    assert not torch.equal(one.target, other.target)
    assert one.target.mean().item() == pytest.approx(0, abs=0.03)
    assert one.target.std().item() == pytest.approx(1, abs=0.03)


def test_shift_of_the_noise_levels_is_applied() -> None:
    _, plain = _noised()
    _, moved = _noised(shift=3.0)
    torch.testing.assert_close(moved.sigma, shifted(plain.sigma, 3.0))
    assert bool((moved.sigma > plain.sigma).all())


@given(u=st.floats(0, 1), shift=st.floats(0.1, 20))
def test_shift_keeps_the_ends_and_the_order_and_can_be_undone(u: float, shift: float) -> None:
    value = shifted(torch.tensor(u, dtype=torch.float64), shift)
    assert 0 <= value <= 1
    assert (value >= u - 1e-12) if shift >= 1 else (value <= u + 1e-12)
    assert shifted(value, 1 / shift).item() == pytest.approx(u, abs=1e-9)
    assert shifted(torch.tensor(u), 1.0).item() == pytest.approx(u)


def test_token_cover_is_the_covered_share_in_row_major_order() -> None:
    alpha = torch.zeros(2, 1, 32, 48)
    alpha[0, 0, :16, 32:] = 1  # token (0, 2) whole
    alpha[1, 0, 16:24, :16] = 1  # token (1, 0) by half
    cover = token_cover(alpha, 16)
    assert cover.tolist() == [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0.5, 0, 0]]


def test_regions_of_a_known_mask() -> None:
    grid = torch.zeros(1, 5, 6)
    grid[0, 2, 3], grid[0, 2, 4] = 1.0, 0.5
    regions = {name: r.reshape(5, 6) for name, r in region_of(grid.flatten(1), (5, 6)).items()}
    assert regions["subject"].nonzero().tolist() == [[2, 3]]
    ring = [[r, c] for r in (1, 2, 3) for c in (2, 3, 4, 5) if (r, c) != (2, 3)]
    assert regions["boundary"].nonzero().tolist() == ring
    assert regions["background"].sum() == 30 - 12


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**31), empty=st.floats(0, 1))
def test_every_token_is_in_exactly_one_region(rows: int, columns: int, seed: int, empty: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    cover = torch.rand(3, rows * columns, generator=generator)
    cover = torch.where(torch.rand(cover.shape, generator=generator) < empty, 0.0, cover)
    cover[0, 0] = 1.0
    regions = region_of(cover, (rows, columns))
    assert set(regions) == {"subject", "boundary", "background"}
    assert torch.equal(sum(regions.values()), torch.ones_like(cover))
    assert not bool((regions["background"] * cover).any())
    assert bool((cover[regions["subject"] > 0] > 0.9).all())


def test_the_true_velocity_has_no_loss_and_any_other_has() -> None:
    _, noised = _noised()
    assert flow_matching_loss(noised.target, noised).item() == 0
    assert flow_matching_loss(noised.target + 2, noised).item() == pytest.approx(4)


def test_token_weights_are_a_weighted_mean() -> None:
    _, noised = _noised()
    prediction = noised.target.clone()
    prediction[:, 0] += 3
    weight = torch.ones(4, 6)
    weight[:, 0] = 5
    assert flow_matching_loss(prediction, noised).item() == pytest.approx(9 / 6)
    assert flow_matching_loss(prediction, noised, weight).item() == pytest.approx(9 * 5 / 10)
    # The scale of the weights does not matter, and equal weights change nothing.
    assert flow_matching_loss(prediction, noised, 7 * weight).item() == pytest.approx(9 * 5 / 10)
    assert flow_matching_loss(prediction, noised, torch.full((4, 6), 2.0)).item() == pytest.approx(9 / 6)


def test_loss_is_float32_and_carries_gradients_in_bfloat16() -> None:
    _, noised = _noised()
    prediction = (noised.target + 1).bfloat16().requires_grad_()
    loss = flow_matching_loss(prediction, noised)
    assert loss.dtype == torch.float32
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


def test_split_sums_add_up_to_the_whole() -> None:
    x0, noised = _noised()
    cover = torch.zeros(4, 6)
    cover[:, 0], cover[:, 1] = 1.0, 0.4
    parts = split_by_region(torch.zeros_like(x0), noised, cover, (2, 3))
    assert sum(tokens for _, tokens in parts.values()) == 24
    total = sum(error for error, _ in parts.values()) / 24
    assert total == pytest.approx(flow_matching_loss(torch.zeros_like(x0), noised).item(), rel=1e-5)
    assert parts["subject"][1] == 4
