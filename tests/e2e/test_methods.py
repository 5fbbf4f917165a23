"""A sheet through the whole flow by each method: random weights of the real classes, every real part.

To add a backbone for a method, add it to `MAKERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.settings import Settings
from pinco.generation.replay import ReplayError, replay
from pinco.generation.settings import ModelSettings
from tests.families import flux2, inpainting, sd3
from tests.pinco.pipelines.odd_pipeline import open_adapter

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Maker:
    """Weights, and what is asked of them; `wanted` is the method that makes the images.

    `asked` is the settings' method, `hero` the one of a channel of its own, where the weights can do two.
    """

    wanted: str
    backbone: Callable[[], Any]
    adapter: Callable[[Any], Any] | None = None
    controlnet: Callable[[Any], Any] | None = None
    asked: str = "auto"
    hero: str | None = None


MAKERS = {
    "pinco": Maker("pinco", inpainting.new_flux, adapter=open_adapter, hero="blend"),
    "blend": Maker("blend", inpainting.new_flux),
    "fill": Maker("fill", inpainting.new_fill),
    "fill-klein": Maker("fill", flux2.new_klein, asked="fill", hero="blend"),
    "controlnet": Maker("controlnet", inpainting.new_flux, controlnet=inpainting.new_flux_controlnet, hero="blend"),
    "controlnet-sd3": Maker("controlnet", sd3.new_pipe, controlnet=lambda _: inpainting.new_sd3_controlnet()),
}
SHEET = [
    {"sku": "ball", "prompt": "a ball on grass"},
    {"sku": "ball", "prompt": "a ball in the snow", "negative": "grass", "channel": "hero"},
]


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Maker:
    return MAKERS[request.param]


@pytest.fixture
def shop(maker: Maker, tmp_path: Path, open_shop: Callable[[Path], Any], small: Settings) -> Any:
    pipe = maker.backbone()
    pipe.save_pretrained(tmp_path / "backbone")
    (tmp_path / "backbone" / "pinco.json").write_text(json.dumps({"working_pixels": 64 * 64}))
    folders = {"backbone": str(tmp_path / "backbone")}
    for name, make in (("controlnet", maker.controlnet), ("adapter", maker.adapter)):
        if make is not None:
            make(pipe).save_pretrained(tmp_path / name)
            folders[name] = str(tmp_path / name)
    model = ModelSettings.model_validate({**folders, "method": maker.asked, "device": "cpu", "steps": 2})
    channels = {**small.channels, "hero": {"size": "96x96", "method": maker.hero}}
    opened = open_shop(tmp_path).with_settings(model=model, channels=channels)
    opened.photo("ball", 40)
    return opened


@pytest.mark.usefixtures("ray_running")
def test_every_row_names_its_method_and_is_replayed_to_the_byte(shop: Any, maker: Maker) -> None:
    summary = shop.run(shop.sheet(SHEET))
    rows = {row.channel: row for row in shop.rows()}
    assert summary.error is None and summary.made == 2
    assert {name: row.method for name, row in rows.items()} == {
        "small": maker.wanted,
        "hero": maker.hero or maker.wanted,
    }
    model = shop.settings.model
    for row in rows.values():
        assert row.status in ("ok", "review", "rejected")
        assert row.core_identical is True
        picture = np.asarray(Image.open(row.image_uri))
        assert picture.shape == (96, 96, 3) and picture.std() > 0
        assert (row.adapter_sha256 is not None) == (row.method == "pinco")
        assert (row.controlnet_sha256 is not None) == (row.method == "controlnet")
        # What today's settings would choose does not matter, only the weights do.
        assert replay(shop.store, row.generation_id, model.model_copy(update={"method": "auto"})).same_file
    for name in ("adapter", "controlnet"):
        if getattr(model, name) is not None:
            with pytest.raises(ReplayError, match=f"{name}_sha256: '.*' then, None now"):
                replay(shop.store, rows["small"].generation_id, model.model_copy(update={name: None}))
