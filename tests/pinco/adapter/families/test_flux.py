"""The Flux processor: the anchor, and its way through diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter, Subject
from pinco.adapter.families import FAMILIES
from pinco.adapter.families import flux as flux_module
from pinco.adapter.positions import rotate

MakeAdapter = Callable[..., PincoAdapter]
ROWS, COLUMNS = 6, 7


@pytest.fixture
def seen_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The subject keys that reach the attention, layer by layer, `[B, H, N_sub, D]`."""
    seen: list[Tensor] = []
    compute = flux_module.subject_attention

    def watch(q: Tensor, k: Tensor, v: Tensor, ks: Tensor, *rest: Any) -> Tensor:
        seen.append(ks)
        return compute(q, k, v, ks, *rest)

    monkeypatch.setattr(flux_module, "subject_attention", watch)
    yield seen


def _attention_maps(
    adapter: PincoAdapter, transformer: FluxTransformer2DModel, tokens: Tensor, at: Tensor, seen: list[Tensor]
) -> Tensor:
    """How position-constant queries, one at every latent token, attend to a subject that lies on the tokens `at`.

    `[layers, heads, rows, columns, N_sub]`: a distribution over the subject's tokens at each latent token.
    """
    subject = Subject(tokens, (ROWS, COLUMNS), index=at)
    ids = torch.zeros(ROWS, COLUMNS, 3)
    ids[..., 1] = torch.arange(ROWS)[:, None]
    ids[..., 2] = torch.arange(COLUMNS)
    seen.clear()
    transformer(
        hidden_states=torch.zeros(1, ROWS * COLUMNS, 64),
        encoder_hidden_states=torch.zeros(1, 3, 8),
        pooled_projections=torch.zeros(1, 8),
        timestep=torch.zeros(1),
        img_ids=ids.flatten(0, 1),
        txt_ids=torch.zeros(3, 3),
        joint_attention_kwargs={"subject": subject},
    )
    query = torch.randn(2, 16, generator=torch.Generator().manual_seed(6)).expand(1, ROWS * COLUMNS, 2, 16)
    queries = rotate(query, FAMILIES["flux"].positions(transformer, (ROWS, COLUMNS), "cpu")).transpose(1, 2)
    scores = torch.stack([(queries @ keys.transpose(-1, -2))[0] for keys in seen])
    return scores.softmax(-1).unflatten(2, (ROWS, COLUMNS))


@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (1, 3)])
@torch.no_grad()
def test_the_attention_map_moves_with_the_subject_only_if_anchored(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel, seen_keys: list[Tensor], shift: tuple[int, int]
) -> None:
    down, right = shift
    tokens = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(7))
    here = torch.tensor([[0 * COLUMNS + 1, 1 * COLUMNS + 1, 2 * COLUMNS + 3]])
    there = here + down * COLUMNS + right
    for anchor in (True, False):
        adapter = make_adapter(anchor=anchor).attach(transformer)
        before = _attention_maps(adapter, transformer, tokens, here, seen_keys)
        after = _attention_maps(adapter, transformer, tokens, there, seen_keys)
        adapter.detach()
        assert before.shape[0] == 4  # every layer was seen
        if anchor:
            overlap = before[:, :, : ROWS - down, : COLUMNS - right]
            torch.testing.assert_close(after[:, :, down:, right:], overlap, atol=1e-5, rtol=0)
            assert float((after - before).abs().max()) > 0.05
        else:
            assert torch.equal(after, before)


@torch.no_grad()
def test_pruned_keys_sit_where_the_unpruned_ones_do(
    make_adapter: MakeAdapter,
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
    seen_keys: list[Tensor],
) -> None:
    adapter = make_adapter(layers=[0]).attach(transformer)
    every = Subject(adapter.extractor(*subject_inputs), (4, 5))
    pruned = adapter.encode(*subject_inputs)
    for subject in (every, pruned):
        transformer(**inputs, joint_attention_kwargs={"subject": subject})
    all_keys, pruned_keys = seen_keys
    assert pruned.index is not None and pruned.keep is not None
    for sample in range(2):
        kept = pruned.keep[sample]
        torch.testing.assert_close(
            pruned_keys[sample][:, kept], all_keys[sample][:, pruned.index[sample][kept]], atol=1e-6, rtol=0
        )


@torch.no_grad()
def test_fused_projections_of_the_backbone_are_used(
    make_adapter: MakeAdapter,
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    adapter = make_adapter().attach(transformer)
    kwargs = {"subject": adapter.encode(*subject_inputs)}
    wanted = transformer(**inputs, joint_attention_kwargs=kwargs)[0]
    for block in transformer.transformer_blocks:
        block.attn.fuse_projections()
        block.attn.to_q.weight.zero_()  # whoever still reads it is found out
    torch.testing.assert_close(transformer(**inputs, joint_attention_kwargs=kwargs)[0], wanted, atol=1e-5, rtol=0)


def test_the_attention_backend_reaches_the_original_processor(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel
) -> None:
    original = transformer.transformer_blocks[0].attn.processor
    adapter = make_adapter().attach(transformer)
    transformer.set_attention_backend("native")
    adapter.detach()
    assert original._attention_backend is not None


def test_an_attention_mask_is_refused(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel, subject_inputs: tuple[Tensor, Tensor]
) -> None:
    adapter = make_adapter().attach(transformer)
    attention = transformer.single_transformer_blocks[0].attn
    with pytest.raises(ValueError, match="no attention_mask"):
        attention(
            torch.zeros(2, 20, 32), attention_mask=torch.ones(1, 1, 1, 20), subject=adapter.encode(*subject_inputs)
        )


@torch.no_grad()
def test_positions_are_those_of_the_pipeline(transformer: FluxTransformer2DModel, inputs: dict[str, Any]) -> None:
    table = FAMILIES["flux"].positions(transformer, (4, 5), "cpu")
    for mine, wanted in zip(table or (), transformer.pos_embed(inputs["img_ids"]), strict=True):
        assert torch.equal(mine, wanted)
