from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from click.testing import Result

from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import StoreError
from pinco.generation.take import failed_row

Pinco = Callable[..., Result]


def test_it_says_what_would_be_made_and_makes_nothing(pinco: Pinco, shop: tuple[Path, Path], tmp_path: Path) -> None:
    done = pinco("plan", shop[0], "--catalog", shop[1], "--store", "store")
    assert done.exit_code == 0
    assert "2 images of 1 products requested" in done.output and "2 would be made" in done.output
    assert "No estimate yet" in done.output
    assert not (tmp_path / "store").exists()


def test_the_estimate_is_by_earlier_runs(
    pinco: Pinco, shop: tuple[Path, Path], tmp_path: Path, new_job: Callable[..., Job]
) -> None:
    store = open_store(str(tmp_path / "store"))
    earlier = [replace(failed_row(new_job(variant=n), "x", StoreError("s"), attempts=1), seconds=60.0) for n in (5, 6)]
    ManifestTable(store).append(earlier, run_id="x", batch=1, base=0)
    done = pinco("plan", shop[0], "--catalog", shop[1], "--store", "store")
    assert "About 2 minutes on 1 worker, 10 seconds of them to start; estimated from the last 2 images" in done.output


def test_a_few_images_take_seconds_and_not_zero_minutes(
    pinco: Pinco, shop: tuple[Path, Path], tmp_path: Path, new_job: Callable[..., Job]
) -> None:
    store = open_store(str(tmp_path / "store"))
    earlier = replace(failed_row(new_job(variant=5), "x", StoreError("s"), attempts=1), seconds=0.5)
    ManifestTable(store).append([earlier], run_id="x", batch=1, base=0)
    done = pinco("plan", shop[0], "--catalog", shop[1], "--store", "store")
    assert "About 11 seconds on 1 worker" in done.output


def test_a_bad_sheet_ends_with_2(pinco: Pinco, shop: tuple[Path, Path]) -> None:
    assert pinco("plan", "nowhere.csv", "--catalog", shop[1], "--store", "store").exit_code == 2


def test_it_says_in_one_line_what_would_be_better_than_blending(
    pinco: Pinco, shop: tuple[Path, Path], toy: Path
) -> None:
    words = ("plan", shop[0], "--catalog", shop[1], "--store", "store", "--backbone", toy / "backbone")
    assert pinco(*words).output.count("The method is blend") == 1
    for flags in (("--adapter", toy / "adapter"), ("--method", "blend")):
        assert "The method is" not in pinco(*words, *flags).output


def test_a_method_that_is_not_possible_ends_with_a_sentence(pinco: Pinco, shop: tuple[Path, Path], toy: Path) -> None:
    words = ("plan", shop[0], "--catalog", shop[1], "--store", "store", "--backbone", toy / "backbone")
    done = pinco(*words, "--method", "fill")
    assert (done.exit_code, "fill is not possible with a FluxPipeline" in done.output) == (1, True)
    done = pinco(*words, "--method", "paint")
    assert done.exit_code == 1 and "model.method" in done.output and "'auto', 'pinco'" in done.output
    done = pinco(*words, "--controlnet", "nowhere")
    assert (done.exit_code, "no ControlNet at nowhere" in done.output) == (1, True)
