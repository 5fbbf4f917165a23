from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb

from pinco.adapter.positions import gather_rows, image_rows, rotate


def _table(rows: int, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(rows)[:, None] * torch.logspace(0, -2, dim // 2)[None]
    return angles.cos().repeat_interleave(2, 1), angles.sin().repeat_interleave(2, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rotation_is_the_backbones_own(dtype: torch.dtype) -> None:
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(rotate(x, _table(5)), apply_rotary_emb(x, _table(5), sequence_dim=1))


def test_gathered_rows_rotate_each_sample_by_its_own_positions() -> None:
    x = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[0, 2, 4], [1, 1, 3]])
    gathered = rotate(x, gather_rows(_table(5), index))
    for sample in range(2):
        for place, row in enumerate(index[sample].tolist()):
            table = tuple(part[row : row + 1] for part in _table(5))
            assert torch.equal(gathered[sample, place], rotate(x[sample : sample + 1, place : place + 1], table)[0, 0])


def test_without_an_index_the_table_is_shared() -> None:
    table = _table(5)
    assert gather_rows(table, None) is table


def test_image_rows_are_the_last_ones() -> None:
    cos, sin = _table(7)
    image_cos, image_sin = image_rows((cos, sin), 4)
    assert torch.equal(image_cos, cos[3:]) and torch.equal(image_sin, sin[3:])


def test_a_table_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows, fewer than the 4 image tokens"):
        image_rows(_table(3), 4)
