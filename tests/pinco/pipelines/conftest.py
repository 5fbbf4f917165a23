"""A Flux pipeline with every real part, tiny and random: 8x VAE with 16 channels, CLIP, T5, word-level tokenizers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pinco.adapter import PincoAdapter
from preprocessing.canvas import Canvas

WORDS = ["a", "bottle", "on", "the", "beach", "wooden", "table", "in", "snow", "night", "city"]
TEXT_WIDTH = 16


def _tokenizer(length: int) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<end>", "<unknown>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_max_length=length,
    )


def make_pipe(*, guidance_embeds: bool = False) -> FluxPipeline:
    """A pipeline of 64 x 64 pixels' worth of weights; the same at every call."""
    torch.manual_seed(7)
    clip = CLIPTextConfig(
        vocab_size=32, hidden_size=TEXT_WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, eos_token_id=1, bos_token_id=0, pad_token_id=0, projection_dim=TEXT_WIDTH,
    )  # fmt: skip
    t5 = T5Config(vocab_size=32, d_model=TEXT_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=16,
            scaling_factor=0.9,
            shift_factor=0.05,
        ),
        text_encoder=CLIPTextModel(clip),
        tokenizer=_tokenizer(12),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=_tokenizer(64),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.transformer):
        part.eval()
    return pipe


@pytest.fixture(scope="session")
def _one_pipe() -> FluxPipeline:
    return make_pipe()


@pytest.fixture
def pipe(_one_pipe: FluxPipeline) -> FluxPipeline:
    """A pipeline whose transformer nobody else touches."""
    return FluxPipeline(**(_one_pipe.components | {"transformer": copy.deepcopy(_one_pipe.transformer)}))


@pytest.fixture
def adapter(pipe: FluxPipeline) -> Iterator[PincoAdapter]:
    """An adapter for the pipeline's backbone with open gates, not attached yet."""
    torch.manual_seed(8)
    made = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config, shape_channels=8, mask_dilation=0)
    with torch.no_grad():
        for number in made.settings.layers:
            made.layer(number).gate.value.uniform_(0.5, 1.5)
    yield made
    made.detach()


@pytest.fixture
def make_canvas() -> Callable[..., Canvas]:
    """Canvases with a bright box on grey: `make_canvas(width, height, left=..., top=...)`."""

    def make(width: int = 64, height: int = 48, left: int = 16, top: int = 8, side: int = 24) -> Canvas:
        image = np.full((height, width, 3), 128, np.uint8)
        maps = np.zeros((3, height, width), np.uint8)
        box = (slice(top, top + side), slice(left, left + side))
        image[box] = (240, 60, 20)
        maps[(0, *box)] = 255
        maps[(1, *box)] = 200
        maps[2, top, left : left + side] = 180
        return Canvas(image, *maps)

    return make


@pytest.fixture
def make_guided_pipe() -> Callable[[], FluxPipeline]:
    """A guidance-distilled backbone, like FLUX.1 dev."""
    return lambda: make_pipe(guidance_embeds=True)
