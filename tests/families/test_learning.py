"""Each family learns: a short training of an adapter on a small trained backbone, by the project's own trainer.

To add a family, add a line to `LEARNERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families import family_of
from pinco.training.adapter_task import AdapterTask
from pinco.training.config import TrainingConfig
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.loop import train
from pinco.training.losses import Noised, add_noise, flow_matching_loss
from pinco.training.validation import validation_by_region
from tests.families import flux2, hunyuan, sd3, z_image
from tests.families.scenes import new_scenes
from tests.pinco.adapter.families import flux2_suite, z_image_suite
from tests.pinco.adapter.families.hunyuan_suite import TEXT, HunyuanSuite
from tests.pinco.adapter.families.sd3_suite import SD3Suite
from tests.pinco.adapter.suite import AdapterSuite, watch_keys

pytestmark = pytest.mark.slow

MARGIN = 0.8
"""The subject's loss with the adapter, over that of the bare backbone, is below this."""

BACKBONE_STEPS, ADAPTER_STEPS, BATCH = 200, 250, 16


@dataclass(frozen=True)
class Learner:
    """How a family is trained.

    Attributes:
        new_transformer: A small backbone with few latent channels: one token must not be wider than the backbone.
        velocity: What it predicts, `[B, N, D]`, in terms of rectified flow.
        suite: The family's part of the shared suite.
        text_width: Of the text's tokens.
        pooled_width: Of the pooled text.
    """

    new_transformer: Callable[[], Any]
    velocity: Callable[[Any, Noised, Batch, Mapping[str, Any] | None], Tensor]
    suite: type[AdapterSuite]
    text_width: int
    pooled_width: int


LEARNERS = {
    "sd3": Learner(
        lambda: sd3.new_transformer(in_channels=4, out_channels=4),
        sd3.velocity,
        SD3Suite,
        text_width=sd3.WIDTH,
        pooled_width=sum(sd3.CLIP_WIDTHS),
    ),
    "hunyuan": Learner(
        lambda: hunyuan.new_transformer(**TEXT),
        hunyuan.velocity,
        HunyuanSuite,
        text_width=hunyuan.WIDTH,
        pooled_width=8,
    ),
    "flux2": Learner(
        lambda: flux2.new_transformer(in_channels=16, joint_attention_dim=flux2_suite.TEXT_WIDTH),
        flux2.velocity,
        flux2_suite.Flux2Suite,
        text_width=flux2_suite.TEXT_WIDTH,
        pooled_width=1,
    ),
    "z_image": Learner(
        lambda: z_image.new_transformer(in_channels=4, cap_feat_dim=z_image_suite.TEXT_WIDTH),
        z_image.velocity,
        z_image_suite.ZImageSuite,
        text_width=z_image_suite.TEXT_WIDTH,
        pooled_width=1,
    ),
}


@dataclass(frozen=True)
class Trained:
    learner: Learner
    transformer: Any
    adapter: PincoAdapter
    held_out: CachedDataset
    bare: dict[str, float]
    adapted: dict[str, float]


@pytest.fixture(scope="module", params=LEARNERS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    learner = LEARNERS[request.param]
    transformer = learner.new_transformer()
    dims = family_of(transformer).dims(transformer, None)
    widths = learner.text_width, learner.pooled_width
    scenes, held_out = (new_scenes(dims, count, seed, *widths) for count, seed in ((512, 1), (64, 2)))

    optimizer = torch.optim.AdamW(transformer.parameters(), lr=3e-3)
    for step in range(BACKBONE_STEPS):
        generator = torch.Generator().manual_seed(step)
        batch = scenes.draw(BATCH, generator)
        noised = add_noise(batch.latents, generator)
        flow_matching_loss(learner.velocity(transformer, noised, batch, None), noised).backward()
        optimizer.step()
        optimizer.zero_grad()
    transformer.requires_grad_(False)
    bare = validation_by_region(lambda noised, batch: learner.velocity(transformer, noised, batch, None), held_out)

    torch.manual_seed(1)
    adapter = PincoAdapter.for_backbone(transformer, None, shape_channels=16).attach(transformer)
    task = AdapterTask(adapter, lambda *call: learner.velocity(transformer, *call), scenes, held_out)
    settings = TrainingConfig(ADAPTER_STEPS, BATCH, 1e-2, warmup_steps=10, validate_every=0, ema_decay=0.9)
    adapted = train(task, settings, tmp_path_factory.mktemp(request.param)).validation
    return Trained(learner, transformer, adapter.eval(), held_out, bare, adapted)


def test_the_subjects_loss_falls_below_the_bare_backbones(trained: Trained) -> None:
    """On held-out scenes, whose products the bare backbone cannot know."""
    assert trained.adapted["subject"] < MARGIN * trained.bare["subject"]


@torch.no_grad()
def test_it_is_the_right_subject_that_helps(trained: Trained) -> None:
    """With a product of other colours in its place the loss is higher."""
    adapter = trained.adapter

    def loss(subjects: Callable[[Tensor], Tensor]) -> float:
        def velocity(noised: Noised, batch: Batch) -> Tensor:
            subject = adapter.encode(subjects(batch.subject_latents), batch.maps)
            with adapter.using(subject) as extra:
                return trained.learner.velocity(trained.transformer, noised, batch, extra)

        return validation_by_region(velocity, trained.held_out)["subject"]

    right, other = loss(lambda latents: latents), loss(lambda latents: -latents)
    assert right == pytest.approx(trained.adapted["subject"], rel=1e-3)
    assert other > 1.2 * right


@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (1, 3)])
def test_the_attention_map_of_the_trained_adapter_moves_with_the_subject_only_if_anchored(
    trained: Trained, shift: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The anchor test of the shared suite, on the trained weights."""

    class OnTrainedWeights(trained.learner.suite):  # type: ignore[misc, name-defined]
        def new_adapter(self, backbone: Any, **options: Any) -> PincoAdapter:
            made = PincoAdapter.for_backbone(backbone, None, shape_channels=16, **options)
            made.load_state_dict(trained.adapter.state_dict())
            return made

    trained.adapter.detach()
    suite = OnTrainedWeights()
    suite.test_the_attention_map_moves_with_the_subject_only_if_anchored(
        trained.transformer, watch_keys(monkeypatch), shift
    )
