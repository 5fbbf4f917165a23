"""Puts the toy's parts into the folders that diffusers' ordinary `from_pretrained` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5EncoderModel

from pinco.adapter.adapter import PincoAdapter
from pinco.evaluation.segmenter import Segmenter
from pinco.generation.builtin import ADAPTER, BACKBONE, CLASSIFIER, SEGMENTER
from pinco.pipelines.defaults import GenerationDefaults
from pinco.toy.model.backbone import new_scheduler
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.model.text import MAX_LENGTH

DEFAULTS = GenerationDefaults(
    steps=16,
    guidance=0.0,
    true_cfg=1.6,
    max_sequence_length=MAX_LENGTH,
    working_pixels=128 * 128,
    segmenter=f"../{SEGMENTER}",
)


@dataclass(frozen=True)
class ToyParts:
    """Everything of the toy, in memory."""

    vae: AutoencoderKL
    clip: CLIPTextModel
    t5: T5EncoderModel
    tokenizer: PreTrainedTokenizerFast
    transformer: FluxTransformer2DModel
    adapter: PincoAdapter
    segmenter: Segmenter
    classifier: PlaceClassifier

    def pipeline(self) -> FluxPipeline:
        return FluxPipeline(
            scheduler=new_scheduler(),
            vae=self.vae,
            text_encoder=self.clip,
            tokenizer=self.tokenizer,
            text_encoder_2=self.t5,
            tokenizer_2=self.tokenizer,
            transformer=self.transformer,
        )

    def save(self, folder: Path) -> None:
        """Write `backbone/` with its `pinco.json`, `adapter/`, `segmenter/` and `classifier/` below `folder`."""
        attached = self.adapter.attached
        self.adapter.detach()  # so that the transformer is saved as the bare backbone that it is
        self.pipeline().save_pretrained(folder / BACKBONE)
        DEFAULTS.write(folder / BACKBONE)
        self.adapter.save_pretrained(folder / ADAPTER)
        self.segmenter.save_pretrained(folder / SEGMENTER)
        self.classifier.save_pretrained(folder / CLASSIFIER)
        if attached:
            self.adapter.attach(self.transformer)
