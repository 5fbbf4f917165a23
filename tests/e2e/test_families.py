"""A sheet through the whole flow on a backbone of each family: random weights, every real part.

To add a family, add it to `BACKBONES`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.settings import Settings
from pinco.generation.replay import replay
from pinco.generation.settings import ModelSettings
from pinco.pipelines.folder import BackboneFolder
from tests.families import flux2, hunyuan, sd3, z_image
from tests.pinco.pipelines.odd_pipeline import open_adapter

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Backbone:
    """A tiny pipeline. `working_pixels` goes into its pinco.json where its family would take a size that is too large
    for a test; `true_cfg` is the guidance of the run, where the family takes one."""

    build: Callable[[], Any]
    true_cfg: float | None = None
    working_pixels: int | None = None


BACKBONES = {
    "sd3": Backbone(sd3.new_pipe, true_cfg=2.0),
    "hunyuan": Backbone(hunyuan.new_pipe, true_cfg=2.0),
    "flux2-dev": Backbone(flux2.new_dev, working_pixels=64 * 64),
    "flux2-klein-base": Backbone(flux2.new_klein, working_pixels=64 * 64),
    "flux2-klein": Backbone(lambda: flux2.new_klein(is_distilled=True), working_pixels=64 * 64),
    "z-image": Backbone(z_image.new_pipe, working_pixels=64 * 64),
}
SHEET = [
    {"sku": "ball", "prompt": "a ball on grass"},
    {"sku": "ball", "prompt": "a ball in the snow", "negative": "grass", "channel": "wide"},
]


@pytest.fixture(scope="module", params=BACKBONES)
def shop(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_shop: Callable[[Path], Any],
    small: Settings,
) -> Any:
    """A shop whose backbone is the family's, with an adapter that has its gates open."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone = BACKBONES[request.param]
    pipe = backbone.build()
    pipe.save_pretrained(folder / "backbone")
    if backbone.working_pixels:
        (folder / "backbone" / "pinco.json").write_text(json.dumps({"working_pixels": backbone.working_pixels}))
    open_adapter(pipe).save_pretrained(folder / "adapter")
    model = ModelSettings(
        backbone=str(folder / "backbone"),
        adapter=str(folder / "adapter"),
        device="cpu",
        steps=2,
        true_cfg=backbone.true_cfg,
    )
    channels = {**small.channels, "wide": {"size": "192x96"}}
    opened = open_shop(folder).with_settings(model=model, channels=channels)
    opened.photo("ball", 40)
    return opened


def test_planning_chooses_the_working_size_from_the_folder_without_torch(shop: Any) -> None:
    program = (
        "import json, sys\n"
        "from flows.planning import CatalogRequest, plan_run\n"
        "from flows.settings import Settings\n"
        "sheet, catalog, store, settings = sys.argv[1:]\n"
        "settings = Settings.model_validate_json(settings)\n"
        "plan = plan_run(CatalogRequest(sheet, catalog, store), settings)\n"
        "print(json.dumps([[job.working_size for job in plan.jobs], 'torch' in sys.modules]))\n"
    )
    words = [shop.sheet(SHEET, "planned.csv"), shop.catalog, shop.store, shop.settings.model_dump_json()]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sizes, torch_loaded = json.loads(done.stdout)
    folder = BackboneFolder(shop.settings.model.backbone)
    assert not torch_loaded
    if folder.defaults.working_pixels == 64 * 64:
        assert sizes == [[64, 64], [96, 48]]
        return
    assert sizes[0] == [128, 128]
    assert sizes[1][0] > sizes[1][1] and all(side % folder.size_multiple == 0 for side in sizes[1])
    assert sizes[1][0] * sizes[1][1] == pytest.approx(folder.defaults.working_pixels, rel=0.2)


@pytest.mark.usefixtures("ray_running")
def test_every_row_ends_with_a_picture_and_is_replayed_to_the_byte(shop: Any) -> None:
    summary = shop.run(shop.sheet(SHEET))
    rows = shop.rows()
    assert summary.error is None
    assert (summary.planned, summary.made, len(rows), shop.images()) == (2, 2, 2, 2)
    for row in rows:
        assert row.status in ("ok", "review", "rejected")
        picture = np.asarray(Image.open(row.image_uri))
        assert picture.shape == (row.height, row.width, 3) and picture.std() > 0
        assert row.core_identical is True
        assert replay(shop.store, row.generation_id, shop.settings.model).same_file
    assert {(row.width, row.height) for row in rows} == {(96, 96), (192, 96)}
