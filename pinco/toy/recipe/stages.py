"""The training stages of the toy: autoencoder, backbone, adapter, instruments. Each can be stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5EncoderModel

from pinco.adapter.adapter import PincoAdapter
from pinco.evaluation.segmenter import Segmenter
from pinco.toy.drawing.data import INSTRUMENT_SEED, TRAIN_SEED, Sets, draw_scenes
from pinco.toy.drawing.places import PLACES
from pinco.toy.model.backbone import SHIFT, BackboneTask, new_transformer, predict
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.model.text import new_clip, new_t5, new_tokenizer
from pinco.toy.model.vae import VaeTask, new_vae, set_latent_scale
from pinco.toy.recipe.encode import encode_scenes
from pinco.toy.recipe.instrument_tasks import ClassifierTask, SegmenterTask
from pinco.training.adapter_task import AdapterTask
from pinco.training.config import TrainingConfig
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.loop import Task, load_finished, train
from pinco.training.losses import Noised
from pinco.training.parallel import barrier, rank

STAGES = ("vae", "decoder", "backbone", "adapter", "refinement", "segmenter", "classifier")
"""Names of the stages, in their order."""


@dataclass(frozen=True)
class Preset:
    """How long each stage is trained, and on how many scenes."""

    scenes: int
    validation_scenes: int
    vae: TrainingConfig
    decoder: TrainingConfig
    backbone: TrainingConfig
    adapter: TrainingConfig
    refinement: TrainingConfig
    segmenter: TrainingConfig
    classifier: TrainingConfig

    def with_seed(self, seed: int) -> Preset:
        """The same preset with every stage's seed moved by `seed`; 0 is the shipped toy."""
        return replace(self, **{s: replace(getattr(self, s), seed=getattr(self, s).seed + 100 * seed) for s in STAGES})


_INSTRUMENT = TrainingConfig(
    steps=600, batch_size=32, learning_rate=3e-3, ema_decay=0.995, seed=3, checkpoint_every=150, validate_every=300
)

PRESETS: dict[str, Preset] = {
    # What is shipped.
    "full": Preset(
        scenes=12_000,
        validation_scenes=100,
        vae=TrainingConfig(
            steps=3000,
            batch_size=16,
            learning_rate=1.5e-3,
            ema_decay=0.998,
            seed=1,
            checkpoint_every=300,
            validate_every=300,
        ),
        decoder=TrainingConfig(
            steps=1200,
            batch_size=16,
            learning_rate=1e-3,
            ema_decay=0.998,
            seed=6,
            checkpoint_every=200,
            validate_every=200,
        ),
        backbone=TrainingConfig(
            steps=1700,
            batch_size=48,
            learning_rate=1.5e-3,
            ema_decay=0.998,
            seed=2,
            checkpoint_every=200,
            validate_every=200,
        ),
        adapter=TrainingConfig(
            steps=1500,
            batch_size=48,
            learning_rate=2e-3,
            ema_decay=0.995,
            seed=5,
            checkpoint_every=100,
            validate_every=200,
            weight_decay=0.0,
        ),
        refinement=TrainingConfig(
            steps=700,
            batch_size=48,
            learning_rate=1e-3,
            warmup_steps=50,
            ema_decay=0.99,
            seed=7,
            checkpoint_every=100,
            validate_every=100,
            weight_decay=0.0,
        ),
        segmenter=_INSTRUMENT,
        classifier=replace(_INSTRUMENT, steps=400, seed=4),
    ),
    # Every line of the recipe in under a minute; the pictures are noise.
    "smoke": Preset(
        scenes=20,
        validation_scenes=10,
        vae=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=1),
        decoder=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=6),
        backbone=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=2),
        adapter=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=5),
        refinement=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=7),
        segmenter=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=3),
        classifier=TrainingConfig(steps=2, batch_size=2, learning_rate=1e-3, seed=4),
    ),
}


class Workshop:
    """Runs the stages in `folder`, in order; finished ones are loaded instead of run again. Uses a GPU if there is one.

    Args:
        folder: holds drawn scenes, checkpoints and logs of all stages.
        preset: how long.
        workers: processes for drawing; the result does not depend on them.
    """

    def __init__(self, folder: Path, preset: Preset, workers: int = 1) -> None:
        self.folder = folder
        self.preset = preset
        self._workers = workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._cached: tuple[CachedDataset, CachedDataset] | None = None

    def scenes(self) -> tuple[Sets, Sets]:
        """Training and validation scenes; drawn by one rank, read by all."""
        wanted = ((self.preset.scenes, TRAIN_SEED), (self.preset.validation_scenes, INSTRUMENT_SEED))
        if rank() == 0:
            for count, seed in wanted:
                draw_scenes(count, seed, self._workers, self.folder)
        barrier()
        train_set, held_out = (draw_scenes(count, seed, 1, self.folder) for count, seed in wanted)
        return train_set, held_out

    def _train(self, stage: str, model: torch.nn.Module, task: Callable[[], Task]) -> None:
        """Run a stage, or load it if it is finished, and freeze the model."""
        config: TrainingConfig = getattr(self.preset, stage)
        if not load_finished(model, config, self.folder / stage):
            train(task(), config, self.folder / stage)
        model.eval().requires_grad_(False)

    def vae(self) -> AutoencoderKL:
        torch.manual_seed(self.preset.vae.seed)
        vae = new_vae().to(self.device)
        sets = self.scenes()
        self._train("vae", vae, lambda: VaeTask(vae, *sets))
        set_latent_scale(vae, sets[0])
        return vae

    def decoder(self, vae: AutoencoderKL) -> None:
        """Train the decoder further, in place. It is a stage of its own because only the pictures depend on it."""
        vae.decoder.requires_grad_(True)
        self._train("decoder", vae.decoder, lambda: VaeTask(vae, *self.scenes(), decoder_only=True))

    def text(self) -> tuple[CLIPTextModel, T5EncoderModel, PreTrainedTokenizerFast]:
        """Random, from the backbone's seed, and frozen."""
        torch.manual_seed(self.preset.backbone.seed + 1_000)
        tokenizer = new_tokenizer()
        return new_clip(tokenizer).requires_grad_(False), new_t5(tokenizer).requires_grad_(False), tokenizer

    def cached(self, vae: AutoencoderKL) -> tuple[CachedDataset, CachedDataset]:
        """Training and validation scenes, encoded for the backbone and the adapter."""
        if self._cached is None:
            train_set, held_out = (encode_scenes(s, vae, *self.text()) for s in self.scenes())
            self._cached = train_set, held_out
        return self._cached

    def backbone(self, vae: AutoencoderKL) -> FluxTransformer2DModel:
        torch.manual_seed(self.preset.backbone.seed)
        transformer = new_transformer().to(self.device)
        self._train("backbone", transformer, lambda: BackboneTask(transformer, *self.cached(vae)))
        return transformer

    def adapter(self, vae: AutoencoderKL, transformer: FluxTransformer2DModel) -> PincoAdapter:
        torch.manual_seed(self.preset.adapter.seed)
        # All subject tokens: at 64 tokens pruning saves no time, and the neutral tokens show where the product ends.
        adapter: PincoAdapter = PincoAdapter.for_backbone(transformer, vae.config, prune=False)
        adapter.to(self.device)
        adapter.attach(transformer)

        def velocity(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
            return predict(transformer, noised, batch, extra)

        self._train(
            "adapter", adapter, lambda: AdapterTask(adapter, velocity, *self.cached(vae), validation_shift=SHIFT)
        )
        adapter.requires_grad_(True)
        self._train(
            "refinement",
            adapter,
            lambda: AdapterTask(
                adapter,
                velocity,
                *self.cached(vae),
                subject_weight=8.0,
                shift=2.0,
                validation_shift=SHIFT,
                own_mistakes=0.75,
                gate_lr_scale=3.0,
            ),
        )
        return adapter.detach()

    def instruments(self) -> tuple[Segmenter, PlaceClassifier]:
        sets = self.scenes()
        torch.manual_seed(self.preset.segmenter.seed)
        segmenter, classifier = Segmenter(), PlaceClassifier(tuple(PLACES))
        self._train("segmenter", segmenter, lambda: SegmenterTask(segmenter, *sets))
        self._train("classifier", classifier, lambda: ClassifierTask(classifier, *sets))
        return segmenter, classifier
