from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from preprocessing.packshot.matte import decontaminate, refine, soften


def test_the_matte_finds_the_edge_between_reduced_pixels(mug: Any) -> None:
    small = cv2.resize(mug.rgb, (125, 113), interpolation=cv2.INTER_AREA)
    product = cv2.resize(mug.truth, (125, 113), interpolation=cv2.INTER_AREA) > 0.5
    alpha = refine(mug.rgb, product, small)
    error = np.abs(alpha / 255.0 - mug.truth)
    assert error[:380].mean() < 0.004  # above the contact shadow
    blown_up = cv2.resize(product.astype(np.uint8), (500, 450), interpolation=cv2.INTER_NEAREST)
    assert error.sum() < 0.5 * np.abs(blown_up - mug.truth).sum()
    assert alpha[250, 220] == 255 and alpha[20, 20] == 0


def test_a_half_covered_pixel_is_half_transparent() -> None:
    photo = np.full((60, 60, 3), 240, np.uint8)
    photo[20:40, 20:40] = (40, 40, 140)
    photo[20:40, 40] = (140, 140, 190)  # half of each
    alpha = refine(photo, np.pad(np.ones((20, 20), bool), 20), photo)
    assert abs(int(alpha[30, 40]) - 127) < 14 and alpha[30, 41] == 0 and alpha[30, 39] == 255


def test_where_the_colours_do_not_differ_the_silhouette_decides() -> None:
    photo = np.full((60, 60, 3), 240, np.uint8)
    product = np.pad(np.ones((20, 20), bool), 20)
    assert np.array_equal(refine(photo, product, photo) >= 128, product)


def test_softening_only_fades_inwards() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    soft = soften(alpha, 2.0)
    assert (soft <= alpha).all() and soft[10, 20] not in (0, 255)
    assert (soft[14:26, 14:26] == 255).all()
    assert soften(alpha, 0.0) is alpha


def test_edge_colours_lose_the_backdrop_and_the_core_keeps_its_bytes(mug: Any) -> None:
    alpha = soften(np.rint(mug.truth * 255).astype(np.uint8), 2.0)
    clean = decontaminate(mug.rgb, alpha)
    core = alpha == 255
    edge = (alpha > 0) & ~core
    edge[:, :340] = False  # the handle: one plain blue before white
    assert np.array_equal(clean[core], mug.rgb[core])
    assert np.array_equal(clean[alpha == 0], mug.rgb[alpha == 0])
    error = np.abs(clean.astype(int) - mug.product.astype(int)).max(axis=2)
    before = np.abs(mug.rgb.astype(int) - mug.product.astype(int)).max(axis=2)
    assert before[edge].max() > 80 and error[edge].max() < 16


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_without_an_edge_or_a_core_nothing_changes(alpha: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    assert decontaminate(photo, np.full((6, 7), alpha, np.uint8)) is photo


def test_a_thin_part_takes_its_own_colour() -> None:
    photo = np.full((80, 200, 3), 255, np.uint8)
    photo[10:70, 10:50] = (200, 0, 0)
    photo[39:42, 50:190] = (0, 0, 200)  # too thin to have a pixel two inside
    alpha = np.zeros((80, 200), np.uint8)
    alpha[10:70, 10:50] = 255
    alpha[40, 50:190], alpha[39, 50:190], alpha[41, 50:190] = 255, 100, 100
    clean = decontaminate(photo, alpha)
    assert clean[39, 180].tolist() == [0, 0, 200]
