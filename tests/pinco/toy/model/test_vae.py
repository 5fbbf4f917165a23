from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.toy.drawing.data import SceneSet, Sets
from pinco.toy.drawing.scenes import SIZES
from pinco.toy.model.vae import VaeTask, decode, encode, new_vae, set_latent_scale, to_signed
from pinco.training.config import TrainingConfig
from pinco.training.loop import train


@pytest.fixture
def vae() -> torch.nn.Module:
    torch.manual_seed(0)
    return new_vae()


@pytest.mark.parametrize("size", SIZES)
def test_any_working_size_goes_through_and_comes_back(vae: torch.nn.Module, sets: Sets, size: tuple[int, int]) -> None:
    x = to_signed(sets[size].image[:1])
    latents = encode(vae, x, raw=True)
    assert latents.shape == (1, 16, size[1] // 8, size[0] // 8)
    back = decode(vae, latents, raw=True)
    assert back.shape == x.shape
    assert back.abs().max() <= 1
    assert not back.requires_grad


def test_a_new_autoencoder_is_nearly_free_of_noise(vae: torch.nn.Module, sets: Sets) -> None:
    with torch.no_grad():
        posterior = vae.encode(to_signed(sets[128, 128].image[:2])).latent_dist
    assert posterior.std.max() < 0.2
    assert posterior.mean.std() > posterior.std.mean()


def test_latent_scale_is_measured_and_undone_by_decoding(vae: torch.nn.Module, sets: Sets) -> None:
    set_latent_scale(vae, sets)
    seen = torch.cat([encode(vae, to_signed(s.image)).flatten() for s in sets.values()])
    assert seen.mean().item() == pytest.approx(0, abs=1e-4)
    assert seen.std().item() == pytest.approx(1, abs=1e-4)
    x = to_signed(sets[128, 128].image[:1])
    raw = encode(vae, x, raw=True)
    expected = (raw - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(encode(vae, x), expected)
    torch.testing.assert_close(decode(vae, encode(vae, x)), decode(vae, raw, raw=True), rtol=1e-4, atol=1e-4)


def test_signed_pixels() -> None:
    pixels = np.array([[[[0, 127, 255]]]], np.uint8)
    assert to_signed(pixels).flatten().tolist() == pytest.approx([-1, -1 / 255, 1], abs=1e-6)


def test_a_few_steps_on_a_tiny_set_raise_the_psnr(vae: torch.nn.Module, sets: Sets, tmp_path: Path) -> None:
    s = sets[128, 128]
    tiny = {(128, 128): SceneSet(s.image[:2], s.layer[:2], s.place[:2], s.kind[:2], s.colour[:2], s.caption[:2])}
    task = VaeTask(vae, tiny, tiny)
    before = task.validate()
    config = TrainingConfig(9, 3, 4e-3, warmup_steps=2, ema_decay=0.5, checkpoint_every=100, validate_every=0)
    after = train(task, config, tmp_path).validation
    assert before.keys() == after.keys() == {"psnr", "psnr_product"}
    assert after["psnr"] > before["psnr"] + 0.5


def test_the_decoder_alone_can_be_trained_on_and_the_latents_stay(
    vae: torch.nn.Module, sets: Sets, tmp_path: Path
) -> None:
    x = to_signed(sets[128, 128].image[:1])
    encoder = {name: t.clone() for name, t in vae.encoder.state_dict().items()}
    latents, picture = encode(vae, x, raw=True), decode(vae, encode(vae, x, raw=True), raw=True)
    task = VaeTask(vae, sets, {(128, 128): sets[128, 128]}, decoder_only=True)
    names = [name for name, _ in task.parameter_groups(1e-3)[0]["params"]]
    assert names == [name for name, _ in vae.decoder.named_parameters()]
    train(task, TrainingConfig(2, 1, 1e-2, warmup_steps=0, ema_decay=0.1), tmp_path)
    assert all(torch.equal(t, encoder[name]) for name, t in vae.encoder.state_dict().items())
    assert all(p.grad is None for p in vae.encoder.parameters())
    assert torch.equal(encode(vae, x, raw=True), latents)
    assert not torch.equal(decode(vae, latents, raw=True), picture)


@pytest.mark.parametrize("step", [0, 1, 2, 4])
def test_mask_and_picture_are_flipped_and_cut_alike(vae: torch.nn.Module, sets: Sets, step: int) -> None:
    """In scenes whose picture is white exactly under the mask, they have to be white there in every batch."""
    marked = {}
    for size, s in sets.items():
        layer = s.layer.copy()
        layer[..., 3] = np.where(layer[..., 3] > 127, 255, 0)
        layer[..., :3] = 255
        white = np.repeat(layer[..., 3:], 3, axis=3)
        marked[size] = SceneSet(white, layer, s.place, s.kind, s.colour, s.caption)
    task = VaeTask(vae, marked, marked)
    for seed in range(4):
        x, mask = task._batch(step, 8, torch.Generator().manual_seed(seed))
        assert x.shape[2:] == mask.shape[2:]
        assert torch.equal(x == 1, mask.expand_as(x) == 1)
        assert mask.any()


def test_whole_pictures_of_all_sizes_are_seen_and_cost_no_more_than_crops(vae: torch.nn.Module, sets: Sets) -> None:
    task = VaeTask(vae, sets, sets)
    whole = [task._batch(0, 16, torch.Generator().manual_seed(s))[0] for s in range(12)]
    assert {tuple(x.shape[2:]) for x in whole} == {(h, w) for w, h in SIZES}
    crops, _ = task._batch(1, 16, torch.Generator().manual_seed(0))
    assert crops.shape == (16, 3, 64, 64)
    assert all(x.numel() <= 1.1 * crops.numel() for x in whole)


def test_some_samples_show_the_product_on_neutral_grey(vae: torch.nn.Module, sets: Sets) -> None:
    task = VaeTask(vae, sets, sets)
    grey = float(to_signed(np.full((1, 1, 1, 3), 128, np.uint8))[0, 0, 0, 0])
    samples = [task._batch(1, 64, torch.Generator().manual_seed(s)) for s in range(6)]
    shares = [((x == grey).all(1) & (m[:, 0] == 0)).sum((1, 2)) == (m[:, 0] == 0).sum((1, 2)) for x, m in samples]
    outside = [(m[:, 0] == 0).any((1, 2)) for _, m in samples]
    neutral = sum(int((s & o).sum()) for s, o in zip(shares, outside, strict=True))
    assert neutral / sum(int(o.sum()) for o in outside) == pytest.approx(0.25, abs=0.07)


def test_the_loss_comes_from_the_generator_alone_and_is_logged_in_parts(vae: torch.nn.Module, sets: Sets) -> None:
    task = VaeTask(vae, sets, sets)
    with torch.no_grad():
        one, details = task.loss(1, 2, torch.Generator().manual_seed(1))
        two, _ = task.loss(1, 2, torch.Generator().manual_seed(1))
    assert torch.equal(one, two)
    assert one.item() == pytest.approx(details["pixels"] + 5e-4 * details["kl"], rel=1e-4)
