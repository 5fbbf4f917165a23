from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pinco.adapter.tokens import pack
from pinco.toy.drawing.data import Sets
from pinco.toy.model.assemble import ToyParts
from pinco.toy.model.backbone import BackboneTask, new_scheduler, new_transformer, position_ids, predict
from pinco.toy.model.text import MAX_LENGTH
from pinco.toy.recipe.encode import encode_scenes
from pinco.training.config import TrainingConfig
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.loop import train
from pinco.training.losses import Noised
from pinco.training.validation import validation_by_region


@pytest.mark.parametrize("size", [(64, 64), (96, 48), (48, 96)])
def test_predict_is_what_the_pipeline_computes(parts: ToyParts, size: tuple[int, int]) -> None:
    """The pipeline's own calls of the transformer, made again by `predict` from noise, level and prompt alone."""
    calls: list[tuple[dict[str, Any], torch.Tensor]] = []

    def watch(module: torch.nn.Module, args: tuple[()], kwargs: dict[str, Any], output: tuple[torch.Tensor]) -> None:
        calls.append((kwargs, output[0]))

    pipe = parts.pipeline()
    pipe.set_progress_bar_config(disable=True)
    handle = parts.transformer.register_forward_hook(watch, with_kwargs=True)
    width, height = size
    pipe("a red box on sand", width=width, height=height, num_inference_steps=2, guidance_scale=0.0,
         max_sequence_length=MAX_LENGTH, output_type="latent", generator=torch.Generator().manual_seed(0))  # fmt: skip
    handle.remove()
    assert len(calls) == 2
    with torch.no_grad():
        sequence, pooled, _ = pipe.encode_prompt("a red box on sand", None, max_sequence_length=MAX_LENGTH)
    nothing = torch.empty(0)
    for kwargs, velocity in calls:
        batch = Batch(nothing, nothing, nothing, nothing, pooled, sequence, (height // 16, width // 16))
        noised = Noised(kwargs["hidden_states"], nothing, kwargs["timestep"])
        assert torch.equal(kwargs["img_ids"], position_ids(batch.grid))
        with torch.no_grad():
            made = predict(parts.transformer, noised, batch)
        torch.testing.assert_close(made, velocity, rtol=1e-5, atol=1e-5)


def test_noise_levels_of_the_pipeline_are_those_of_training(parts: ToyParts) -> None:
    """No shift: the first step is pure noise and the levels fall evenly, as sigma in training is drawn unshifted."""
    scheduler = new_scheduler()
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=1.15)
    assert scheduler.sigmas.tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert (scheduler.timesteps / 1000).tolist() == pytest.approx([1, 0.75, 0.5, 0.25])


def test_positions_run_along_rows_first() -> None:
    assert position_ids((2, 3)).tolist() == [[0, r, c] for r in range(2) for c in range(3)]


def test_a_new_transformer_has_the_layout_of_flux() -> None:
    transformer = new_transformer()
    config = transformer.config
    assert config.in_channels == 16 * 2 * 2
    assert sum(config.axes_dims_rope) == config.attention_head_dim
    assert not config.guidance_embeds
    assert sum(p.numel() for p in transformer.parameters()) * 4 < 30e6


@pytest.fixture
def data(parts: ToyParts, sets: Sets) -> CachedDataset:
    few = {(128, 128): type(sets[128, 128])(*(getattr(sets[128, 128], f)[:2] for f in sets[128, 128].__annotations__))}
    return encode_scenes(few, parts.vae, parts.clip, parts.t5, parts.tokenizer)


def test_the_whole_transformer_trains_and_its_loss_falls(parts: ToyParts, data: CachedDataset, tmp_path: Path) -> None:
    task = BackboneTask(parts.transformer, data, data)
    (group,) = task.parameter_groups(2e-3)
    assert dict(group["params"]).keys() == dict(parts.transformer.named_parameters()).keys()
    before = task.validate()
    config = TrainingConfig(40, 4, 5e-3, warmup_steps=4, ema_decay=0.8, checkpoint_every=100, validate_every=0)
    after = train(task, config, tmp_path).validation
    assert before.keys() == after.keys() == {"loss", "subject", "background", "boundary"}
    assert after["loss"] < 0.8 * before["loss"]


def test_the_loss_comes_from_the_generator_alone(parts: ToyParts, data: CachedDataset) -> None:
    task = BackboneTask(parts.transformer, data, data)
    losses = [task.loss(step, 3, torch.Generator().manual_seed(seed))[0] for step, seed in ((0, 1), (9, 1), (0, 2))]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_validation_draws_its_noise_levels_at_the_schedulers_shift(parts: ToyParts, data: CachedDataset) -> None:
    wanted = validation_by_region(
        lambda noised, batch: predict(parts.transformer, noised, batch), data, shift=float(new_scheduler().config.shift)
    )
    assert BackboneTask(parts.transformer, data, data).validate() == wanted


def test_packed_latents_unpack_as_the_pipeline_does(parts: ToyParts) -> None:
    latents = torch.randn(2, 16, 12, 8, generator=torch.Generator().manual_seed(0))
    unpacked = parts.pipeline()._unpack_latents(pack(latents, 2), 96, 64, 8)
    assert torch.equal(unpacked, latents)
