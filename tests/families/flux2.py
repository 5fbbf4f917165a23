"""Tiny random FLUX.2 parts: the transformers, text encoders, tokenizers with chat templates, and the VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pinco.training.dataset import Batch
from pinco.training.losses import Noised

LATENT_CHANNELS = 8
TEXT_WIDTH = 16

_BYTES = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}

_QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
_MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set mark = 'SYSTEM_PROMPT' if message.role == 'system' else 'INST' %}"
    "{{ '[' + mark + ']' }}{% for part in message.content %}{{ part.text }}{% endfor %}{{ '[/' + mark + ']' }}"
    "{% endfor %}"
)


def new_transformer(**changes: Any) -> Flux2Transformer2DModel:
    """2 double and 2 single blocks, 2 heads of 16, always with the same weights; `changes` go to the config."""
    torch.manual_seed(1)
    config: dict[str, Any] = dict(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * TEXT_WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    transformer: Flux2Transformer2DModel = Flux2Transformer2DModel(**(config | changes)).eval()
    with torch.no_grad():  # random where training starts at one, and modulations that let the blocks have a say
        for name, parameter in transformer.named_parameters():
            if ".norm_k" in name or ".norm_q" in name:
                parameter.uniform_(0.5, 1.5)
            elif "stream_modulation" in name:
                parameter.normal_()
    return transformer


def new_vae() -> AutoencoderKLFlux2:
    """One latent pixel for 8 x 8 pixels, with statistics of latents as training leaves them."""
    vae: AutoencoderKLFlux2 = AutoencoderKLFlux2(
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.3, 2.0)
    return vae


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Configured as the released checkpoints' are."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, time_shift_type="exponential")


def new_qwen_tokenizer() -> Qwen2TokenizerFast:
    """Of bytes, with a chat template that knows whether there is thinking."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Qwen2TokenizerFast(
        vocab=_BYTES,
        merges=[],
        unk_token=special[0],
        pad_token=special[0],
        eos_token=special[2],
        extra_special_tokens=special,
    )
    tokenizer.chat_template = _QWEN_TEMPLATE
    return tokenizer


def new_qwen() -> tuple[Qwen2TokenizerFast, Qwen3ForCausalLM]:
    """With as many layers as the pipeline's choice of hidden states needs."""
    tokenizer = new_qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    return tokenizer, Qwen3ForCausalLM(config).eval()


def new_mistral() -> tuple[PreTrainedTokenizerFast, Mistral3ForConditionalGeneration]:
    """As `new_qwen`. The tokenizer alone: the released checkpoint's processor of text and images needs torchvision."""
    inner = Tokenizer(models.BPE(_BYTES, []))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        extra_special_tokens=["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"],
        chat_template=_MISTRAL_TEMPLATE,
    )
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=31,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    vision = PixtralVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids("[IMG]")
    )
    return tokenizer, Mistral3ForConditionalGeneration(config).eval()


def new_klein(*, is_distilled: bool = False, **transformer: Any) -> Flux2KleinPipeline:
    """A whole klein pipeline, always with the same weights."""
    torch.manual_seed(7)
    tokenizer, text_encoder = new_qwen()
    pipe = Flux2KleinPipeline(
        scheduler=new_scheduler(),
        vae=new_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=new_transformer(**transformer),
        is_distilled=is_distilled,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def new_dev(**transformer: Any) -> Flux2Pipeline:
    """A whole dev pipeline, always with the same weights."""
    torch.manual_seed(7)
    tokenizer, text_encoder = new_mistral()
    pipe = Flux2Pipeline(
        scheduler=new_scheduler(),
        vae=new_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=new_transformer(**({"guidance_embeds": True} | transformer)),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def velocity(
    transformer: Flux2Transformer2DModel, noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None
) -> Tensor:
    """The transformer's velocity `[B, N, D]`, called the way `Flux2KleinPipeline` calls it."""
    out: Tensor = transformer(
        hidden_states=noised.x_t,
        timestep=noised.sigma,
        encoder_hidden_states=batch.sequence,
        img_ids=Flux2KleinPipeline._prepare_latent_ids(torch.zeros(1, 1, *batch.grid)),
        txt_ids=Flux2KleinPipeline._prepare_text_ids(batch.sequence),
        return_dict=False,
        **(extra or {}),
    )[0]
    return out
