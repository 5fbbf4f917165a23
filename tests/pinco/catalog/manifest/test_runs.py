from __future__ import annotations

from collections.abc import Callable

import pytest

from pinco.catalog.manifest.connect import NoManifestError
from pinco.catalog.manifest.runs import UnknownRunError, known_runs, require_manifest, require_run
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


@pytest.fixture
def table(store: Store, make_row: MakeRow) -> ManifestTable:
    table = ManifestTable(store)
    for number, run in enumerate(("monday", "tuesday", "monday")):
        table.append([make_row(number, run_id=run)], run_id=run, batch=number + 1, base=table.version)
    return table


def test_runs_come_in_the_order_of_their_first_rows(table: ManifestTable) -> None:
    assert known_runs(table) == ["monday", "tuesday"]
    require_run(table, "monday")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tuesdya", "Did you mean 'tuesday'"),
        ("mon", "Did you mean 'monday'"),
        ("x", "latest runs are: monday, tuesday"),
    ],
)
def test_an_unknown_run_is_an_error_that_names_the_runs(table: ManifestTable, name: str, said: str) -> None:
    with pytest.raises(UnknownRunError, match=said):
        require_run(table, name)


def test_a_store_without_a_manifest_is_an_error_and_is_not_made(store: Store) -> None:
    table = ManifestTable(store)
    assert known_runs(table) == []
    for require in (require_manifest, lambda table: require_run(table, "monday")):
        with pytest.raises(NoManifestError, match="check the address"):
            require(table)
    assert list(store.list()) == []
