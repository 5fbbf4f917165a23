from __future__ import annotations

import pytest
import torch
from diffusers import FluxPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from pinco.adapter.tokens import covered_tokens, gather, pack, select, unpack


def test_packing_is_fluxs_own() -> None:
    latents = torch.randn(2, 16, 6, 4)
    assert torch.equal(pack(latents, 2), FluxPipeline._pack_latents(latents, 2, 16, 6, 4))


def test_unpacking_undoes_packing() -> None:
    latents = torch.randn(2, 16, 6, 4)
    assert torch.equal(unpack(pack(latents, 2), 2, (3, 2)), latents)


def test_a_latent_with_an_odd_side_is_refused() -> None:
    with pytest.raises(ValueError, match="4 x 5 does not divide into patches of 2"):
        pack(torch.zeros(1, 16, 5, 4), 2)


def test_a_token_is_covered_by_one_half_opaque_pixel() -> None:
    mask = torch.zeros(1, 1, 32, 48)
    mask[0, 0, 17, 33] = 0.5
    mask[0, 0, 3, 3] = 0.4
    assert covered_tokens(mask, stride=16, dilation=0).tolist() == [[False] * 5 + [True]]


def test_dilation_grows_to_all_eight_sides() -> None:
    mask = torch.zeros(1, 1, 80, 80)
    mask[0, 0, 40, 40] = 1
    grown = covered_tokens(mask, stride=16, dilation=1).view(5, 5)
    assert grown[1:4, 1:4].all() and int(grown.sum()) == 9


@settings(max_examples=40)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_selection_keeps_exactly_the_covered_tokens_in_order(rows: list[list[bool]]) -> None:
    covered = torch.tensor(rows)
    if not covered.any(dim=1).all():
        with pytest.raises(ValueError, match="covers no token"):
            select(covered)
        return
    index, keep = select(covered)
    keep = torch.ones_like(index, dtype=torch.bool) if keep is None else keep
    for sample, row in enumerate(rows):
        assert index[sample][keep[sample]].tolist() == [number for number, kept in enumerate(row) if kept]


def test_equal_counts_need_no_padding() -> None:
    index, keep = select(torch.tensor([[True, False, True], [False, True, True]]))
    assert keep is None and index.tolist() == [[0, 2], [1, 2]]


def test_an_empty_mask_names_its_sample() -> None:
    with pytest.raises(ValueError, match=r"sample\(s\) \[1\]"):
        select(torch.tensor([[True, False], [False, False]]))


def test_gathering_takes_rows_per_sample() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    assert gather(tokens, torch.tensor([[2], [0]])).tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]
