from __future__ import annotations

from collections.abc import Callable

from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.plan.estimate import Estimate, estimate_time
from pinco.catalog.store.base import Store


def test_without_history_there_is_no_estimate(store: Store) -> None:
    assert estimate_time(ManifestTable(store), 5) == Estimate(5, None, 0)


def test_the_median_of_earlier_images_counts(folder_store: Store, make_row: Callable[..., Row]) -> None:
    rows = [make_row(number, seconds=seconds) for number, seconds in enumerate([1.0, 3.0, 100.0])]
    table = ManifestTable(folder_store)
    table.append([*rows, make_row(9, "failed")], run_id="run-a", batch=1, base=0)
    assert estimate_time(table, 10) == Estimate(10, 30.0, 3)
    assert estimate_time(table, 0) == Estimate(0, 0.0, 3)
