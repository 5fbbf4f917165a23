from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from flows.commands.manifest import parse_as_of
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store

Pinco = Callable[..., Result]
OLD_STORE = Path(__file__).parents[2] / "pinco" / "catalog" / "manifest" / "golden" / "old_store"


@pytest.fixture
def table(tmp_path: Path, failed: Callable[..., Row]) -> ManifestTable:
    table = ManifestTable(open_store(str(tmp_path / "store")))
    rows = [failed(0), failed(1, error_message="[bold]not markup[/bold]")]
    table.append(rows, run_id="night", batch=1, base=0)
    return table


@pytest.mark.usefixtures("table")
def test_show_prints_the_rows_as_they_are(pinco: Pinco) -> None:
    done = pinco("manifest", "show", "store")
    assert done.exit_code == 0
    assert "2 images: 2 failed" in done.output and "run night: 2" in done.output
    assert "[bold]" in done.output, "texts of a sheet are no markup"


@pytest.mark.usefixtures("table")
def test_export_writes_one_file(pinco: Pinco, tmp_path: Path) -> None:
    done = pinco("manifest", "export", "store", "out.parquet")
    assert "2 rows written" in done.output
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2
    assert pinco("manifest", "export", "store", "out.parquet", "--run", "night").output.startswith("2 rows")


@pytest.mark.parametrize(
    "words",
    [("show",), ("history",), ("compact",), ("vacuum",), ("export", "out.parquet")],
    ids=lambda words: words[0],
)
def test_a_wrong_address_is_an_error_and_makes_nothing(pinco: Pinco, words: tuple[str, ...], tmp_path: Path) -> None:
    done = pinco("manifest", words[0], "nowhere", *words[1:])
    assert done.exit_code == 1
    assert "there is no manifest at" in done.output and "check the address" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("table")
def test_names_that_no_row_has_are_errors(pinco: Pinco, tmp_path: Path) -> None:
    for words in (("show", "store"), ("export", "store", "out.parquet")):
        done = pinco("manifest", *words, "--run", "nihgt")
        assert (done.exit_code, "Did you mean 'night'" in done.output) == (1, True)
    assert not (tmp_path / "out.parquet").exists()
    done = pinco("manifest", "show", "store", "--sku", "bal")
    assert (done.exit_code, "Did you mean 'ball'" in done.output) == (1, True)
    assert pinco("manifest", "show", "store", "--status", "bad").exit_code == 2


@pytest.mark.usefixtures("table")
def test_rows_are_chosen_by_status_and_product(pinco: Pinco) -> None:
    assert "2 images: 2 failed" in pinco("manifest", "show", "store", "--status", "failed", "--sku", "ball").output
    assert "0 images: none" in pinco("manifest", "show", "store", "--status", "ok").output
    assert "2 images: 2 failed, the last 1 of them above" in pinco("manifest", "show", "store", "--limit", 1).output


@pytest.mark.usefixtures("table")
def test_wide_prints_every_column(pinco: Pinco) -> None:
    said = pinco("manifest", "show", "store", "--wide").output
    for name in ("job_id", "source_sha256", "error_type", "sequence"):
        assert [line.split()[0] for line in said.splitlines() if line].count(name) == 2
    assert "image_uri" not in said, "it has no value"


def test_the_manifest_is_shown_as_it_was(pinco: Pinco, table: ManifestTable, failed: Callable[..., Row]) -> None:
    between = datetime.now(UTC)
    table.append([failed(2)], run_id="next", batch=1, base=0)
    assert pinco("manifest", "show", "store").output.count("a ball") == 3
    for when in ("1", between.isoformat(), between.replace(tzinfo=None).isoformat()):
        assert "2 images: 2 failed" in pinco("manifest", "show", "store", "--as-of", when).output
    assert pinco("manifest", "export", "store", "then.parquet", "--as-of", "1").output.startswith("2 rows")
    assert pinco("manifest", "show", "store", "--as-of", "9").exit_code == 1


def test_a_time_that_is_none_is_a_mistake_of_the_command_line(pinco: Pinco, table: ManifestTable) -> None:
    done = pinco("manifest", "show", table.store.uri, "--as-of", "last night")
    assert done.exit_code == 2 and "neither a version" in done.output


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (None, None),
        ("0", 0),
        ("42", 42),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T06:30", datetime(2026, 5, 1, 6, 30, tzinfo=UTC)),
        ("2026-05-01T06:30+02:00", datetime(2026, 5, 1, 4, 30, tzinfo=UTC)),
    ],
)
def test_a_version_or_a_time_can_be_meant(text: str | None, meant: int | datetime | None) -> None:
    assert parse_as_of(text) == meant


def test_history_says_who_appended_what(pinco: Pinco, table: ManifestTable, failed: Callable[..., Row]) -> None:
    table.append([failed(2)], run_id="next", batch=1, base=0)
    lines = [line.split() for line in pinco("manifest", "history", "store").output.splitlines()[1:]]
    assert [(row[0], row[3:]) for row in lines] == [
        ("2", ["write", "next", "1", "0"]),
        ("1", ["write", "night", "2", "0"]),
        ("0", ["create", "table"]),
    ]
    assert "night" not in pinco("manifest", "history", "store", "--limit", "1").output


def test_history_fits_a_terminal_of_80_columns(
    pinco: Pinco, table: ManifestTable, failed: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = "20261124T145037-0c55bb"
    table.append([failed(2)], run_id=run, batch=1, base=0)
    table.append([failed(3)], run_id=f"{run}.adopted", batch=1, base=0)
    output = pinco("manifest", "history", "store").output
    assert max(map(len, output.splitlines())) <= 80
    assert output.count(run) == 2 and "…" not in output and "create table" in output


def test_compact_and_vacuum_say_what_they_did(
    pinco: Pinco, table: ManifestTable, failed: Callable[..., Row], tmp_path: Path
) -> None:
    table.append([failed(2)], run_id="next", batch=1, base=0)
    assert "2 files are 1 now" in pinco("manifest", "compact", "store").output
    orphan = tmp_path / "store" / "images" / "gen-0123456789abcdef.png"
    orphan.parent.mkdir()
    orphan.write_bytes(b"image")
    for path in tmp_path.glob("store/**/*"):
        os.utime(path, (0, 0))
    said = pinco("manifest", "vacuum", "store").output
    assert "images/gen-0123456789abcdef.png" in said
    assert "1 images without a row" in said and "5 bytes: not deleted; add --delete" in said
    assert orphan.exists()
    assert "5 bytes: deleted." in pinco("manifest", "vacuum", "store", "--delete").output
    assert not orphan.exists()
    assert "nothing to delete." in pinco("manifest", "vacuum", "store").output


def test_an_old_store_is_refused_until_it_is_converted(pinco: Pinco, tmp_path: Path) -> None:
    shutil.copytree(OLD_STORE, tmp_path / "old")
    refused = pinco("manifest", "show", "old")
    assert refused.exit_code == 1 and "`pinco manifest migrate" in refused.output
    assert "5 rows of 3 commits were converted" in pinco("manifest", "migrate", "old").output
    assert "3 images: " in pinco("manifest", "show", "old").output
    assert "nothing to convert" in pinco("manifest", "migrate", "old").output
