from __future__ import annotations

from collections.abc import Callable

import pytest

from pinco.catalog.check.findings import check_store
from pinco.catalog.check.repair import DAMAGED, repair
from pinco.catalog.manifest.connect import LOG
from pinco.catalog.manifest.pending import pending_key
from pinco.catalog.manifest.readers import job_states, read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.base import Store


def _replace(store: Store, key: str, data: bytes) -> None:
    store.delete(key)
    store.put_if_absent(key, data)


def _skus(store: Store) -> list[str]:
    return sorted(row.sku for row in read_rows(ManifestTable(store)))


def test_rows_of_lost_images_are_made_again_by_the_next_run(
    store: Store, rows: list[Row], made: Callable[..., Row]
) -> None:
    gone, changed = str(rows[0].image_uri), str(rows[3].image_uri)
    before = ManifestTable(store).version
    store.delete(gone)
    _replace(store, changed, b"IMAGE 3")
    done = repair(store, check_store(store, full=True).findings, "repair")
    assert (done.rows, done.adopted, done.left) == (2, 0, ())
    assert _skus(store) == ["0001", "0002", "0004", "0005"]
    table = ManifestTable(store)
    assert job_states(table, [rows[0].job_id, rows[3].job_id]).done == frozenset()
    assert len(read_rows(ManifestTable(store, as_of=before))) == 6
    assert check_store(store, full=True).findings == ()
    (kept,) = store.list(DAMAGED)
    assert kept.key.startswith(f"{DAMAGED}{changed}.") and store.get(kept.key) == b"IMAGE 3"
    again = [made(store, number, run_id="run-2") for number in (0, 3)]
    table.append(again, run_id="run-2", batch=1, base=table.version)
    assert _skus(store) == [f"{number:04d}" for number in range(6)]
    assert check_store(store, full=True).findings == ()


def test_an_image_that_rows_of_an_earlier_version_name_by_its_full_address(
    folder_store: Store, made: Callable[..., Row], make_row: Callable[..., Row]
) -> None:
    row = make_row(0, image_uri="/where/it's/been/images/gen-0123456789abcdef.png")
    table = ManifestTable(folder_store)
    table.append([row, make_row(1, "failed")], run_id="run-a", batch=1, base=0)
    assert repair(folder_store, check_store(folder_store).findings, "repair").rows == 1
    assert _skus(folder_store) == ["0001"]


@pytest.mark.parametrize("gone", [True, False])
def test_the_table_goes_on_without_a_damaged_file(
    store: Store, rows: list[Row], made: Callable[..., Row], gone: bool
) -> None:
    """A row that waits is adopted, so that its image is not made again."""
    table = ManifestTable(store)
    assert table.delta is not None
    added = {uri.rpartition("/")[2] for uri in table.delta.file_uris()}
    table.append([made(store, 7)], run_id="run-2", batch=1, base=table.version)  # and died before it removed the row
    (last,) = {uri.rpartition("/")[2] for uri in table.delta.file_uris()} - added
    if gone:
        store.delete(f"manifest/{last}")
    else:
        _replace(store, f"manifest/{last}", b"garbage")
    done = repair(store, check_store(store).findings, "repair")
    assert (done.rows, done.adopted, done.left) == (1, 1, ())
    assert _skus(store) == ["0000", "0001", "0002", "0003", "0004", "0005", "0007"]
    assert check_store(store).findings == ()
    assert len(list(store.list(DAMAGED))) == (0 if gone else 1)


def test_a_log_goes_on_without_what_it_does_not_need(store: Store, rows: list[Row]) -> None:
    compact(ManifestTable(store))
    for name in (f"{1:020d}.json", "_last_checkpoint"):
        _replace(store, f"{LOG}{name}", b"garbage")
    assert repair(store, check_store(store).findings, "repair").left == ()
    assert len(_skus(store)) == 6
    assert check_store(store).findings == ()


def test_a_checkpoint_is_not_needed_where_all_entries_are_there(store: Store, rows: list[Row]) -> None:
    compact(ManifestTable(store))
    _replace(store, f"{LOG}{3:020d}.checkpoint.parquet", b"garbage")
    assert repair(store, check_store(store).findings, "repair").left == ()
    assert len(_skus(store)) == 6
    assert check_store(store).findings == ()


def test_what_cannot_be_repaired_is_left_alone(store: Store, rows: list[Row]) -> None:
    entry = f"{LOG}{2:020d}.json"
    _replace(store, entry, b"garbage")
    done = repair(store, check_store(store).findings, "repair")
    assert [finding.key for finding in done.left] == [entry]
    assert store.get(entry) == b"garbage"


def test_a_waiting_row_that_cannot_be_read_goes_aside(store: Store, rows: list[Row]) -> None:
    key = pending_key("images/gen-0123456789abcdef.png")
    store.put_if_absent(key, b"garbage")
    assert repair(store, check_store(store).findings, "repair").rows == 0
    assert store.head(key) is None
    assert check_store(store).findings == ()
