"""Finished rows become visible here: the driver gathers them, writes parts and commits."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from flows.driver.endings import TooManyFailuresError
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.manifest.commits import Commit, CommitLog
from pinco.catalog.manifest.parts import Part, write_part
from pinco.catalog.manifest.schema import Row

log = logging.getLogger(__name__)


class Recorder:
    """Writes finished rows as parts every ``commit.part_seconds``, and commits those every ``commit.rows`` or minutes.

    Images lie in the store before their rows come here, and a part that no commit names yet is adopted by the next run:
    what a killed driver can lose is the rows of the last few seconds. ``base`` is the log's head when the run was
    planned: what another run has finished since then is not replaced.
    """

    def __init__(
        self,
        log: CommitLog,
        run_id: str,
        *,
        base: int,
        commit: CommitSettings,
        failures: FailureSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._run_id, self._base = log, run_id, base
        self._settings, self._failures, self._clock = commit, failures, clock
        self._rows: list[Row] = []  # finished since the last part
        self._parts: list[Part] = []  # written since the last commit
        self._batch, self._part = 0, 0
        self._due, self._part_due = clock() + 60 * commit.minutes, clock() + commit.part_seconds
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.commits: list[Commit] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take finished rows; commits when enough of them are there."""
        self._rows.extend(rows)
        with self._lock:
            self.statuses.update(row.status for row in rows)
        if len(self._rows) + sum(part.rows for part in self._parts) >= self._settings.rows:
            self.commit()

    def tick(self) -> None:
        """Write and commit when it is time. Raises TooManyFailuresError, after a commit, past the limit."""
        if self._clock() >= self._part_due:
            self._write_part()
        if self._clock() >= self._due:
            self.commit()
        counts = self.snapshot()
        finished, failed = counts.total(), counts["failed"] + counts["quarantined"]
        if finished >= self._failures.rows and failed > self._failures.share * finished:
            self.commit()
            raise TooManyFailuresError(
                f"{failed} of {finished} rows failed, more than the limit of {self._failures.share:.0%} "
                "(failures.share in the settings); what was finished is in the manifest, with the reasons"
            )

    def commit(self) -> None:
        """Make everything that was added visible."""
        self._due = self._clock() + 60 * self._settings.minutes
        self._write_part()
        if not self._parts:
            return
        self._batch += 1
        commit = self._log.commit(run_id=self._run_id, batch=self._batch, parts=self._parts, base=self._base)
        self.commits.append(commit)
        self._parts.clear()
        log.info("commit %d: %d rows, %d done elsewhere meanwhile", commit.seq, commit.rows, commit.dropped)

    def _write_part(self) -> None:
        """Make what was added durable: from here on it survives this process."""
        self._part_due = self._clock() + self._settings.part_seconds
        if self._rows:
            self._part += 1
            self._parts.append(write_part(self._log.store, self._run_id, self._part, self._rows))
            self._rows.clear()

    def snapshot(self) -> Counter[str]:
        """Rows so far by status; safe from other threads (the heartbeat's)."""
        with self._lock:
            return self.statuses.copy()
