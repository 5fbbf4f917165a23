"""The demo's manifest, read by engines that know nothing of Pinco."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.demo import PLACES
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.table import open_manifest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

PRODUCTS = 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small demo, made by its command."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        patch.setenv("PINCO_RAY__OBJECT_STORE_MIB", "200")
        done = CliRunner().invoke(app, ["demo", "--out", str(out), "--products", str(PRODUCTS)])
    assert done.exit_code == 0, done.output
    return out


def test_duckdb_reads_it_through_the_tables_arrow_dataset(demo: Path) -> None:
    manifest = DeltaTable(str(demo / "store" / "manifest")).to_pyarrow_dataset()
    database = duckdb.connect().register("manifest", manifest)
    found = database.sql("SELECT count(*), count(DISTINCT sku), bool_and(core_identical), max(sequence) FROM manifest")
    images, products, untouched, version = found.fetchall()[0]
    assert (images, products, untouched) == (PRODUCTS * len(PLACES), PRODUCTS, True)
    assert version == DeltaTable(str(demo / "store" / "manifest")).version()


def test_polars_reads_it_lazily(demo: Path) -> None:
    scan = pl.scan_delta(str(demo / "store" / "manifest"))
    latest = scan.sort("sequence").unique("job_id", keep="last").select("sku", "prompt", "generation_id").collect()
    rows = read_rows(open_manifest(str(demo / "store")))
    assert set(latest.rows()) == {(row.sku, row.prompt, row.generation_id) for row in rows}
    assert latest.height == PRODUCTS * len(PLACES)


def test_both_find_what_came_since_a_version(demo: Path) -> None:
    address = str(demo / "store" / "manifest")
    since = DeltaTable(address).version() - 1
    manifest = DeltaTable(address).to_pyarrow_dataset()
    database = duckdb.connect().register("manifest", manifest)
    counted = database.sql(f"SELECT count(*) FROM manifest WHERE sequence > {since}").fetchall()[0][0]
    assert counted == pl.scan_delta(address).filter(pl.col("sequence") > since).collect().height
    assert 0 < counted <= PRODUCTS * len(PLACES)
