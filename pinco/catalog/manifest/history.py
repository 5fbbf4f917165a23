"""What happened to the manifest when: the versions of its table, read from the entries of its log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pinco.catalog.manifest.connect import LOG
from pinco.catalog.manifest.damage import entry_number, is_checkpoint
from pinco.catalog.store.base import ObjectNotFoundError, Store

NOTE = "pinco"
"""Key of what an append says about itself in its log entry."""

UNREADABLE = "unreadable"
"""The operation of a version whose entry is damaged."""


@dataclass(frozen=True)
class Version:
    """One version of the table.

    Attributes:
        version: Its number, by which it can be read again.
        at: When it was written.
        operation: What the table's library calls it: `WRITE`, `OPTIMIZE`, ...
        run: The run that appended, None for upkeep.
        batch: The number of the run's batch, None for upkeep.
        rows: How many rows it appended.
        dropped: How many it left out, because their jobs were done.
    """

    version: int
    at: datetime
    operation: str
    run: str | None = None
    batch: int | None = None
    rows: int = 0
    dropped: int = 0


def history(store: Store) -> Iterator[Version]:
    """The versions of a store's manifest, newest first, as far back as the log is kept (30 days).

    An entry that is damaged is a version of which nothing but its number and its time is known.

    Entries are read as they are asked for. (The library's own `history()` miscounts versions when it is given a limit,
    and holds Python's lock while it waits for the network.)
    """
    for info in reversed(list(store.list(LOG))):
        number = entry_number(info.key)
        if number is None or is_checkpoint(info.key):
            continue
        try:
            actions = [json.loads(line) for line in store.get(info.key).splitlines()]
            version = _version(number, next(action["commitInfo"] for action in actions if "commitInfo" in action))
        except ObjectNotFoundError:  # removed meanwhile, for its age
            return
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration, OverflowError, RecursionError):
            version = Version(number, info.modified, UNREADABLE)
        yield version


def _version(number: int, said: dict[str, object]) -> Version:
    note = said.get(NOTE)
    at = datetime.fromtimestamp(int(str(said["timestamp"])) / 1000, UTC)
    return Version(number, at, str(said["operation"]), **(note if isinstance(note, dict) else {}))
