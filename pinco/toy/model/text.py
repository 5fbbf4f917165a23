"""The toy's text side: a word-level tokenizer and two small frozen random encoders (CLIP pooled, T5 sequence).

Random encoders are enough: a word keeps its own direction, and the transformer learns what it means.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pinco.toy.drawing.captions import vocabulary
from pinco.toy.drawing.products import COLOURS, KINDS

MAX_LENGTH = 24
WIDTH = 96

_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Lower case, one token a word (letters and digits), `<s> … </s>` around."""
    known = {w: i for i, w in enumerate((*_SPECIAL, *vocabulary(list(KINDS), list(COLOURS))))}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", known["<s>"]), ("</s>", known["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=MAX_LENGTH,
    )


def new_clip(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """Pooled text embedding `[B, WIDTH]`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_factor=8.0,
        )
    ).eval()


def new_t5(tokenizer: PreTrainedTokenizerFast) -> T5EncoderModel:
    """Text tokens `[B, L, WIDTH]`."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=24,
            d_ff=2 * WIDTH,
            num_layers=1,
            num_heads=4,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            dropout_rate=0.0,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    ).eval()


@torch.no_grad()
def embed(
    clip: CLIPTextModel, t5: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings just as `FluxPipeline.encode_prompt` makes them: pooled `[B, D]` and sequence `[B, MAX_LENGTH, D]`."""
    ids = tokenizer(texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt").input_ids
    return clip(ids).pooler_output, t5(ids).last_hidden_state
