"""One sheet, run, run again, changed, and replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

from flows.driver.actors import Generator
from flows.driver.run import RunSummary
from pinco.catalog.manifest.readers import export_manifest
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

SHEET = [
    {"sku": "ball", "prompt": "a ball on grass", "n": 2},
    {"sku": "ball", "prompt": "a ball in the snow", "negative": "grass"},
    {"sku": "disc", "prompt": "a disc on sand", "placement": "bottom", "scale": "0.5"},
]


class NobodyMayAsk(Generator):
    """A run that has nothing to make must not start an actor."""

    def load(self) -> None:
        raise AssertionError("an inference actor was started")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, open_shop: Callable[[Path], Any]) -> tuple[Any, str, RunSummary]:
    shop = open_shop(tmp_path_factory.mktemp("catalog"))
    shop.photo("ball", 40)
    shop.photo("disc", 200)
    sheet = shop.sheet(SHEET)
    return shop, sheet, shop.run(sheet)


def test_every_planned_image_has_one_row_and_one_file(first: tuple[Any, str, RunSummary]) -> None:
    shop, _, summary = first
    rows = shop.rows()
    assert summary.error is None
    assert (summary.planned, summary.made, len(rows)) == (4, 4, 4)
    assert len({row.job_id for row in rows}) == len({row.generation_id for row in rows}) == 4
    assert shop.images() == 4
    assert shop.appends() == [(summary.run_id, 4)]
    assert list(open_store(shop.store).list("_pending/")) == []
    for row in rows:
        picture = np.asarray(Image.open(row.image_uri))
        assert picture.shape == (96, 96, 3) == (row.height, row.width, 3)
        assert row.core_identical is True
        assert row.extension is not None and row.not_scored == ()
        assert (row.threads, row.device, row.attempts) == (1, "cpu", 1)


def test_the_product_is_in_the_picture_and_the_ground_is_not_the_photo(first: tuple[Any, str, RunSummary]) -> None:
    shop, _, _ = first
    (row,) = [row for row in shop.rows() if row.sku == "disc"]
    picture = np.asarray(Image.open(row.image_uri)).astype(int)
    # scale 0.5 at the bottom: the product's stripe lies at two thirds of the height
    assert np.abs(picture[63, 48] - (200, 250, 250)).max() <= 2
    assert picture[:20].std() > 0, "the ground was generated"


def test_the_exported_manifest_can_be_asked_by_duckdb(first: tuple[Any, str, RunSummary], tmp_path: Path) -> None:
    shop, _, _ = first
    out = tmp_path / "manifest.parquet"
    export_manifest(ManifestTable(open_store(shop.store)), out)
    answer = duckdb.sql(f"SELECT sku, count(*), bool_and(core_identical) FROM '{out}' GROUP BY sku ORDER BY sku")
    assert answer.fetchall() == [("ball", 3, True), ("disc", 1, True)]


def test_the_contact_sheet_shows_every_image(first: tuple[Any, str, RunSummary]) -> None:
    _, _, summary = first
    page = Path(summary.report).read_text(encoding="utf-8")
    assert page.count("data:image/") == 6, "four images and two photos"
    assert "a ball in the snow" in page


def test_cutouts_are_kept_in_the_store(first: tuple[Any, str, RunSummary]) -> None:
    shop, _, _ = first
    assert len(list(open_store(shop.store).list("_cutouts/"))) == 2


def test_a_second_run_makes_nothing(first: tuple[Any, str, RunSummary]) -> None:
    shop, sheet, _ = first
    again = shop.run(sheet, generator=NobodyMayAsk)
    assert (again.made, again.done_before, again.error) == (0, 4, None)
    assert len(shop.appends()) == 1


def test_replay_in_another_process_gives_the_same_bytes_without_ray_or_prefect(
    first: tuple[Any, str, RunSummary], tmp_path: Path
) -> None:
    """The snow picture was made in one call with two others, by an actor; it is made again alone, from its row."""
    shop, _, _ = first
    (row,) = [row for row in shop.rows() if row.prompt == "a ball in the snow"]
    out = tmp_path / "again.png"
    program = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from flows.cli import app\n"
        "result = CliRunner().invoke(app, ['replay', *sys.argv[1:]])\n"
        "print(json.dumps([result.exit_code, result.output, sorted({'ray', 'prefect'} & set(sys.modules))]))\n"
    )
    words = [shop.store, row.generation_id[:10], "--out", str(out), "--adapter", shop.settings.model.adapter]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=240)
    code, output, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, output + done.stderr
    assert out.read_bytes() == Path(row.image_uri).read_bytes()
    assert "The same bytes" in output
    assert loaded == []


def test_replay_refuses_other_weights(first: tuple[Any, str, RunSummary], tmp_path: Path) -> None:
    from pinco.generation.replay import ReplayError, replay
    from pinco.toy.model.untrained import make_untrained

    shop, _, _ = first
    other = make_untrained(tmp_path / "other", seed=1)
    model = shop.settings.model.model_copy(update={"adapter": str(other / "adapter")})
    with pytest.raises(ReplayError, match="adapter_sha256"):
        replay(shop.store, shop.rows()[0].generation_id, model)


def test_changing_one_prompt_makes_exactly_those_images(first: tuple[Any, str, RunSummary]) -> None:
    shop, _, _ = first
    before = {row.generation_id for row in shop.rows()}
    changed = [{**SHEET[0], "prompt": "a ball on marble"}, *SHEET[1:]]
    summary = shop.run(shop.sheet(changed, "changed.csv"))
    new = [row for row in shop.rows() if row.generation_id not in before]
    assert (summary.made, summary.done_before) == (2, 2)
    assert {(row.prompt, row.variant) for row in new} == {("a ball on marble", 0), ("a ball on marble", 1)}
