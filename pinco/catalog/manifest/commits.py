"""The commit log: which parts count, in which order.

A commit is one small JSON object, `_commits/{seq:012d}.json`, created with put-if-absent. Numbers have no gaps, each
commit names the hash of the one before, and readers follow them instead of listing parts. Of several commits of one job
the latest is the visible one.

Two runs may commit at once. Who loses the race for a number reads what the winner committed, leaves out the jobs that
are done by now, and takes the next number. (run id, batch number) makes a commit idempotent: said twice, it is one
commit.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pinco.catalog.ids.canonical import canonical_json
from pinco.catalog.manifest.parts import Part, read_part, write_table
from pinco.catalog.manifest.schema import DONE, SCHEMA_VERSION, is_settled, take_rows
from pinco.catalog.store.base import ObjectNotFoundError, Store, StoreError

COMMITS = "_commits/"
_TRIES = 200
_READERS = 16


class CommitConflictError(StoreError):
    """A batch number was used for two different batches of one run."""

    code = "commit_conflict"


class DamagedLogError(StoreError):
    """The commit log has a gap or was changed after it was written."""

    code = "damaged_log"


@dataclass(frozen=True)
class Commit:
    """One commit.

    seq: 1, 2, 3, ... without gaps. parent: sha256 of the bytes of commit `seq - 1`, None for the first.
    parts: what became visible. submitted: the keys that were handed in, which differ where rows were dropped.
    dropped: how many rows another run, or the same one, had already done.
    """

    seq: int
    parent: str | None
    run_id: str
    batch: int
    parts: tuple[Part, ...]
    submitted: tuple[str, ...]
    dropped: int
    created_at: str
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> str:
        return commit_key(self.seq)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def to_bytes(self) -> bytes:
        return (canonical_json(asdict(self)) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Commit:
        """Raises KeyError, TypeError or ValueError for what is no commit, or one of a newer version."""
        fields: dict[str, Any] = json.loads(data)
        if fields["schema_version"] > SCHEMA_VERSION:
            raise ValueError("it was written by a newer Pinco: update Pinco")
        parts = tuple(Part(**part) for part in fields.pop("parts"))
        return cls(parts=parts, submitted=tuple(fields.pop("submitted")), **fields)


@dataclass(frozen=True)
class JobState:
    """What the log says of one job: its visible status, and the commit that says so."""

    status: str
    transient: bool
    seq: int

    @property
    def done(self) -> bool:
        return self.status in DONE

    @property
    def settled(self) -> bool:
        return is_settled(self.status, self.transient)


def commit_key(seq: int) -> str:
    """Where commit number `seq` lies."""
    return f"{COMMITS}{seq:012d}.json"


class CommitLog:
    """The log as far as it has been read, and the way to add to it. One thread at a time.

    commits: all commits known, in order. states: the visible state of every job in them.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.commits: list[Commit] = []
        self.states: dict[str, JobState] = {}
        self._last_sha256: str | None = None
        self._batches: dict[tuple[str, int], Commit] = {}
        self.refresh()

    @property
    def head(self) -> int:
        """The number of the last commit known, 0 when there is none."""
        return len(self.commits)

    def refresh(self) -> None:
        """Read the commits that came since the last look.

        Raises:
            DamagedLogError: the chain is broken. DamagedPartError: a part that counts is not there as it was written.
        """
        self._extend(list(_raw_commits(self.store, self.head + 1)))

    def commit(self, *, run_id: str, batch: int, parts: Sequence[Part], base: int) -> Commit:
        """Make the rows of `parts` visible, in one step, and say how.

        A row is left out when its job is done by a commit after `base`, and when another row of the same job is in
        `parts` (one that is done is kept before one that is not). Failed rows never replace work that was done
        meanwhile.

        base: `head` at the time the run was planned: what was done by then and still is in `parts` was asked for again.

        Raises:
            CommitConflictError: this run has committed another batch under this number.
            DamagedPartError: a part is not there, or not as it was written. Nothing was committed.
        """
        submitted = tuple(part.key for part in parts)
        tables = [read_part(self.store, part) for part in parts]
        for attempt in range(_TRIES):
            self.refresh()
            earlier = self._batches.get((run_id, batch))
            if earlier is not None:
                if earlier.submitted != submitted:
                    raise CommitConflictError(
                        f"{self.store.uri_of(earlier.key)} is batch {batch} of run {run_id} already, with other parts"
                    )
                return earlier
            kept = self._undone(tables, base)
            visible = [
                part if table.num_rows == part.rows else write_table(self.store, run_id, batch, table)
                for part, table in zip(parts, kept, strict=True)
                if table.num_rows
            ]
            record = Commit(
                seq=self.head + 1,
                parent=self._last_sha256,
                run_id=run_id,
                batch=batch,
                parts=tuple(visible),
                submitted=submitted,
                dropped=sum(part.rows for part in parts) - sum(part.rows for part in visible),
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            data = record.to_bytes()
            if self.store.put_if_absent(record.key, data, "application/json"):
                self._extend([data])
                return record
            # Another run was faster, or this write did happen and its answer was lost: the next look tells.
            time.sleep(random.uniform(0, min(0.5, 0.005 * 2**attempt)))
        raise StoreError(f"{self.store.uri}: no commit number could be had in {_TRIES} tries")

    def _undone(self, tables: Sequence[pa.Table], base: int) -> list[pa.Table]:
        chosen: dict[str, tuple[int, int]] = {}
        done: set[str] = set()
        for number, table in enumerate(tables):
            statuses = table.column("status").to_pylist()
            for index, job in enumerate(table.column("job_id").to_pylist()):
                state = self.states.get(job)
                if state is not None and state.done and state.seq > base:
                    continue
                if job in done:
                    continue
                chosen[job] = (number, index)
                if statuses[index] in DONE:
                    done.add(job)
        rows: list[list[int]] = [[] for _ in tables]
        for number, index in chosen.values():
            rows[number].append(index)
        return [take_rows(table, sorted(chosen_rows)) for table, chosen_rows in zip(tables, rows, strict=True)]

    def _extend(self, raw: Sequence[bytes]) -> None:
        """Take up further commits: the chain is checked, their parts are read at once, and count in the log's order."""
        if not raw:
            return
        records = _checked(self.store, raw, self.head + 1, self._last_sha256)
        parts = [(record.seq, part) for record in records for part in record.parts]
        with ThreadPoolExecutor(_READERS) as pool:
            tables = pool.map(lambda pair: read_part(self.store, pair[1], ["job_id", "status", "transient"]), parts)
            for (seq, _), table in zip(parts, tables, strict=True):
                for row in table.to_pylist():
                    self.states[row["job_id"]] = JobState(row["status"], row["transient"], seq)
        self.commits += records
        self._batches.update({(record.run_id, record.batch): record for record in records})
        self._last_sha256 = hashlib.sha256(raw[-1]).hexdigest()


def read_commits(store: Store) -> list[Commit]:
    """All commits, in order, without a look into their parts. Raises DamagedLogError."""
    return _checked(store, list(_raw_commits(store, 1)), 1, None)


def commit(store: Store, *, run_id: str, batch: int, parts: Sequence[Part], base: int) -> Commit:
    """`CommitLog.commit` for a caller that commits once: a run that commits often keeps its `CommitLog`."""
    return CommitLog(store).commit(run_id=run_id, batch=batch, parts=parts, base=base)


def done_jobs(store: Store) -> set[str]:
    """The jobs whose visible row is `ok`, `review` or `rejected`."""
    return {job for job, state in CommitLog(store).states.items() if state.done}


def _checked(store: Store, raw: Sequence[bytes], first: int, parent: str | None) -> list[Commit]:
    """The commits in these bytes, if they are a chain that goes on from `parent` with number `first`."""
    records: list[Commit] = []
    for seq, data in enumerate(raw, start=first):
        uri = store.uri_of(commit_key(seq))
        try:
            record = Commit.from_bytes(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedLogError(f"{uri} is not a commit that this version of Pinco can read: {error}") from error
        if (record.seq, record.parent) != (seq, parent):
            raise DamagedLogError(f"{uri} does not continue the commit before it: the log was changed")
        records.append(record)
        parent = hashlib.sha256(data).hexdigest()
    return records


def _raw_commits(store: Store, first: int) -> Iterator[bytes]:
    """The bytes of commits `first`, `first + 1`, ... up to the last."""
    seq = first
    listed: list[str] = []
    if first == 1:  # later looks are for news, and need one request where there is none
        listed = [info.key for info in store.list(COMMITS)]
        dense = [key for number, key in enumerate(listed, 1) if key == commit_key(number)]
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(store.get, dense)
        seq += len(dense)
    while True:  # what came since the listing, or what a folder's listing missed while others wrote
        try:
            yield store.get(commit_key(seq))
        except ObjectNotFoundError:
            break
        seq += 1
    if listed and listed[-1] >= commit_key(seq):
        raise DamagedLogError(f"{store.uri_of(commit_key(seq))} is missing, and later commits are there")
