"""A sheet through the whole flow on FLUX.2 in its three forms and on Z-Image: random weights, every real part."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.settings import Settings
from pinco.generation.replay import replay
from pinco.generation.settings import ModelSettings
from tests.families import flux2, z_image
from tests.pinco.pipelines.odd_pipeline import open_adapter

pytestmark = pytest.mark.slow

BUILDERS: dict[str, Callable[[], Any]] = {
    "dev": flux2.new_dev,
    "klein-base": flux2.new_klein,
    "klein": lambda: flux2.new_klein(is_distilled=True),
    "z-image": z_image.new_pipe,
}
SHEET = [
    {"sku": "ball", "prompt": "a ball on grass"},
    {"sku": "ball", "prompt": "a ball in the snow", "negative": "grass", "channel": "wide"},
]


@pytest.fixture(scope="module", params=BUILDERS)
def shop(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_shop: Callable[[Path], Any],
    small: Settings,
) -> Any:
    """A shop with such a backbone, told to work at 64 x 64 pixels, and an adapter that has its gates open."""
    folder = tmp_path_factory.mktemp(request.param)
    pipe = BUILDERS[request.param]()
    pipe.save_pretrained(folder / "backbone")
    (folder / "backbone" / "pinco.json").write_text(json.dumps({"working_pixels": 64 * 64}))
    open_adapter(pipe).save_pretrained(folder / "adapter")
    model = ModelSettings(backbone=str(folder / "backbone"), adapter=str(folder / "adapter"), device="cpu", steps=2)
    channels = {**small.channels, "wide": {"size": "192x96"}}
    opened = open_shop(folder).with_settings(model=model, channels=channels)
    opened.photo("ball", 40)
    return opened


def test_planning_chooses_sizes_in_tokens_without_torch(shop: Any) -> None:
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
    assert json.loads(done.stdout) == [[[64, 64], [96, 48]], False]


@pytest.mark.usefixtures("ray_running")
def test_every_row_ends_with_a_picture_and_is_replayed_to_the_byte(shop: Any) -> None:
    summary = shop.run(shop.sheet(SHEET))
    rows = shop.rows()
    assert summary.error is None
    assert (summary.planned, summary.made, len(rows), shop.images()) == (2, 2, 2, 2)
    for row in rows:
        picture = np.asarray(Image.open(row.image_uri))
        assert picture.shape == (row.height, row.width, 3) and picture.std() > 0
        assert row.core_identical is True
        assert replay(shop.store, row.generation_id, shop.settings.model).same_file
    assert {(row.width, row.height) for row in rows} == {(96, 96), (192, 96)}
