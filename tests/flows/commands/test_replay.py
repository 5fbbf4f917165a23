from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pinco.catalog.manifest.schema import Row
from pinco.generation import replay as module
from pinco.generation.replay import Replayed, ReplayError

Pinco = Callable[..., Result]
WORDS = ("replay", "store", "0123", "--out", "again/image.png")


@pytest.mark.parametrize(
    ("same_file", "same_pixels", "core", "said"),
    [
        (True, True, True, "The same bytes"),
        (False, True, True, "The same pixels"),
        (False, False, True, "product is identical; the picture as a whole has a PSNR of 41.5 dB"),
        (False, False, False, "core DIFFERS"),
    ],
)
def test_it_writes_the_image_and_says_how_they_compare(
    pinco: Pinco,
    failed: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    same_file: bool,
    same_pixels: bool,
    core: bool,
    said: str,
) -> None:
    again = Replayed(failed(), b"image", same_file, same_pixels, core, 41.5)
    monkeypatch.setattr(module, "replay", lambda *_, **__: again)
    done = pinco(*WORDS)
    assert (done.exit_code, said in done.output) == (0, True)
    assert (tmp_path / "again" / "image.png").read_bytes() == b"image"


def test_an_id_that_is_not_there_is_a_sentence(pinco: Pinco) -> None:
    done = pinco(*WORDS)
    assert (done.exit_code, "begins with '0123'" in done.output) == (1, True)


def test_what_differs_is_said(pinco: Pinco, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ReplayError("adapter_sha256: 'a' then, 'b' now")

    monkeypatch.setattr(module, "replay", refuse)
    done = pinco(*WORDS)
    assert (done.exit_code, "adapter_sha256" in done.output) == (1, True)
