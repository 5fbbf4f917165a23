from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from pinco.adapter.positions import Additive, Rotary, gather_rows, rotate


def _table(rows: int, dim: int = 8) -> Rotary:
    angles = torch.arange(rows)[:, None] * torch.logspace(0, -2, dim // 2)[None]
    return Rotary(angles.cos().repeat_interleave(2, 1), angles.sin().repeat_interleave(2, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rotation_is_the_backbones_own(dtype: torch.dtype) -> None:
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    table = _table(5)
    assert torch.equal(rotate(x, table.cos, table.sin), apply_rotary_emb(x, (table.cos, table.sin), sequence_dim=1))


@pytest.mark.parametrize("batched", [False, True], ids=["one table", "a table per sample"])
def test_gathered_rows_rotate_each_sample_by_its_own_positions(batched: bool) -> None:
    x = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[0, 2, 4], [1, 1, 3]])
    table = _table(8)
    samples = [Rotary(table.cos[start : start + 5], table.sin[start : start + 5]) for start in (0, 3 * batched)]
    given = samples[0]
    if batched:
        given = Rotary(torch.stack([t.cos for t in samples]), torch.stack([t.sin for t in samples]))
    gathered = given.on_keys(x, index)
    for sample in range(2):
        for place, row in enumerate(index[sample].tolist()):
            cos, sin = samples[sample].cos[row : row + 1], samples[sample].sin[row : row + 1]
            alone = rotate(x[sample : sample + 1, place : place + 1], cos, sin)
            assert torch.equal(gathered[sample, place], alone[0, 0])


def test_a_rotary_table_leaves_the_tokens() -> None:
    tokens = torch.randn(2, 3, 6)
    assert _table(5).on_tokens(tokens, None) is tokens


def test_an_added_table_meets_each_token_where_it_sits_and_leaves_the_keys() -> None:
    torch.manual_seed(0)
    table, embedded = Additive(torch.randn(5, 6)), 3 * torch.randn(2, 3, 6) + 1
    index = torch.tensor([[0, 2, 4], [1, 1, 3]])
    assert table.on_tokens(torch.zeros(2, 5, 6, dtype=torch.bfloat16), None).dtype == torch.bfloat16
    wanted = F.layer_norm(embedded + table.table[index], (6,))
    spread = embedded.std(-1, keepdim=True, correction=0)
    added = table.on_tokens(F.layer_norm(embedded, (6,)), index, spread)
    torch.testing.assert_close(added, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(table.on_tokens(embedded, index), wanted, atol=1e-4, rtol=0)
    keys = torch.randn(2, 3, 2, 4)
    assert table.on_keys(keys, index) is keys


def test_an_added_table_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="adds positions of width 6 to its tokens, the subject's are 4 wide"):
        Additive(torch.zeros(5, 6)).on_tokens(torch.zeros(1, 5, 4), None)


def test_without_an_index_the_table_is_shared() -> None:
    table = torch.zeros(5, 6)
    assert gather_rows(table, None) is table


def test_image_rows_are_the_last_ones() -> None:
    table = _table(7)
    image = table.last(4)
    assert torch.equal(image.cos, table.cos[3:]) and torch.equal(image.sin, table.sin[3:])


def test_a_table_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows, fewer than the 4 image tokens"):
        _table(3).last(4)
