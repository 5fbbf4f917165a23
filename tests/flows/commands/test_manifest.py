from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from pinco.catalog.manifest.commits import commit
from pinco.catalog.manifest.parts import write_part

from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.access import open_store

Pinco = Callable[..., Result]


@pytest.fixture
def two_rows(tmp_path: Path, failed: Callable[..., Row]) -> None:
    store = open_store(str(tmp_path / "store"))
    part = write_part(store, "night", 1, [failed(0), failed(1, error_message="[bold]not markup[/bold]")])
    commit(store, run_id="night", batch=1, parts=[part], base=0)
    write_part(store, "night", 2, [failed(2)])  # not committed: not there


@pytest.mark.usefixtures("two_rows")
def test_show_follows_the_commits(pinco: Pinco) -> None:
    done = pinco("manifest", "show", "store")
    assert done.exit_code == 0
    assert "2 images: 2 failed" in done.output and "run night: 2" in done.output
    assert "[bold]" in done.output, "texts of a sheet are no markup"


@pytest.mark.usefixtures("two_rows")
def test_export_writes_one_file(pinco: Pinco, tmp_path: Path) -> None:
    done = pinco("manifest", "export", "store", "out.parquet")
    assert "2 rows written" in done.output
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2
    assert pinco("manifest", "export", "store", "none.parquet", "--run", "another").output.startswith("0 rows")


def test_an_empty_store_is_no_error(pinco: Pinco) -> None:
    assert "0 images: none yet" in pinco("manifest", "show", "nowhere").output
