from __future__ import annotations

from collections.abc import Callable

import pytest

from pinco.catalog.check import findings as module
from pinco.catalog.check.findings import Checked, check_store
from pinco.catalog.delivery.images import put_image
from pinco.catalog.manifest.connect import LOG, NoManifestError
from pinco.catalog.manifest.pending import pending_key
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.base import Store


def _replace(store: Store, key: str, data: bytes) -> None:
    store.delete(key)
    store.put_if_absent(key, data)


def test_a_sound_store(store: Store, rows: list[Row], made: Callable[..., Row]) -> None:
    made(store, 9)
    put_image(store, "nobodys", b"image", "png")
    for note in ("images/README", "_pending/README", "manifest/README", "manifest/_delta_log/README"):
        store.put_if_absent(note, b"not ours")
    before = sorted(info.key for info in store.list())
    assert check_store(store) == Checked(2, 6, 4, 4, waiting=1, unnamed=1, findings=())
    assert sorted(info.key for info in store.list()) == before


def test_a_store_without_a_manifest_is_an_error(store: Store) -> None:
    with pytest.raises(NoManifestError):
        check_store(store)


def test_images_that_are_gone_cut_or_changed(store: Store, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    gone, cut, changed, _ = (str(row.image_uri) for row in rows if row.image_uri)
    store.delete(gone)
    _replace(store, cut, b"ima")
    _replace(store, changed, b"IMAGE 3")
    found = {finding.key: finding for finding in check_store(store, full=True).findings}
    assert {key: finding.reason for key, finding in found.items()} == {
        gone: "it is gone",
        cut: "it has 3 bytes, and was written with 7",
        changed: "its bytes are not those that were written",
    }
    assert all((f.kind, f.rows, f.named) == ("image", 1, {key}) for key, f in found.items())
    monkeypatch.setattr(module, "SAMPLE", 0)
    assert {finding.key for finding in check_store(store).findings} == {gone, cut}, "without reading any"


def test_a_damaged_file_of_rows_hides_nothing_of_the_others(folder_store: Store, made: Callable[..., Row]) -> None:
    table = ManifestTable(folder_store)
    for number in (0, 1):
        table.append([made(folder_store, number)], run_id=f"run-{number}", batch=1, base=table.version)
    assert table.delta is not None
    first = f"manifest/{table.delta.file_uris()[0].rpartition('/')[2]}"
    _replace(folder_store, first, b"garbage")
    left = table.dataset().to_table  # the table itself cannot be read any more
    with pytest.raises(Exception, match="Parquet"):
        left()
    checked = check_store(folder_store)
    (finding,) = checked.findings
    assert (finding.kind, finding.key, finding.rows, finding.repairable) == ("rows", first, 1, True)
    assert (checked.files, checked.rows, checked.images, checked.unnamed) == (2, 2, 1, 0), "its image's row still waits"


def test_the_log(store: Store, rows: list[Row]) -> None:
    compact(ManifestTable(store))
    _replace(store, f"{LOG}{1:020d}.json", b"garbage")
    _replace(store, f"{LOG}_last_checkpoint", b"garbage")
    found = {finding.key: finding.repairable for finding in check_store(store).findings}
    assert found == {f"{LOG}{1:020d}.json": True, f"{LOG}_last_checkpoint": True}
    _replace(store, f"{LOG}{3:020d}.checkpoint.parquet", b"garbage")
    assert not any(
        finding.repairable for finding in check_store(store).findings if finding.key != f"{LOG}_last_checkpoint"
    ), "entry 1 is needed now"


def test_an_entry_that_nothing_replaces_cannot_be_repaired(store: Store, rows: list[Row]) -> None:
    _replace(store, f"{LOG}{2:020d}.json", b"garbage")
    (finding,) = check_store(store).findings
    assert (finding.kind, finding.key, finding.repairable) == ("log", f"{LOG}{2:020d}.json", False)


def test_a_row_that_waits_and_cannot_be_read(store: Store, rows: list[Row]) -> None:
    key = pending_key("images/gen-0123456789abcdef.png")
    store.put_if_absent(key, b'{"not": "a row"}')
    checked = check_store(store)
    assert [(finding.kind, finding.key) for finding in checked.findings] == [("waiting", key)]
    assert checked.waiting == 0
