"""Finished rows become visible here: the driver gathers them, writes parts and commits."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from flows.faults import TooManyFailures
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.commits import Commit, CommitLog
from pinco.catalog.manifest import Row
from pinco.catalog.parts import write_part

log = logging.getLogger(__name__)


class Recorder:
    """Holds finished rows until ``commit.rows`` of them or ``commit.minutes`` have come together, then commits them.

    Their images lie in the store already, so what a crash can lose between two commits is bookkeeping, not pictures.
    ``base`` is the log's head when the run was planned: what another run has finished since then is not replaced.
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
        self._rows: list[Row] = []
        self._batch = 0
        self._due = clock() + 60 * commit.minutes
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.commits: list[Commit] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take finished rows; commits when enough of them are there."""
        self._rows.extend(rows)
        with self._lock:
            self.statuses.update(row.status for row in rows)
        if len(self._rows) >= self._settings.rows:
            self.commit()

    def tick(self) -> None:
        """Commit when it is time. Raises TooManyFailures, after a commit, when the run is past its limit."""
        if self._clock() >= self._due:
            self.commit()
        counts = self.snapshot()
        finished, failed = counts.total(), counts["failed"] + counts["quarantined"]
        if finished >= self._failures.rows and failed > self._failures.share * finished:
            self.commit()
            raise TooManyFailures(
                f"{failed} of {finished} rows failed, more than the limit of {self._failures.share:.0%} "
                "(failures.share in the settings); what was finished is in the manifest, with the reasons"
            )

    def commit(self) -> None:
        """Make everything that was added visible."""
        self._due = self._clock() + 60 * self._settings.minutes
        if not self._rows:
            return
        self._batch += 1
        part = write_part(self._log.store, self._run_id, self._batch, self._rows)
        commit = self._log.commit(run_id=self._run_id, batch=self._batch, parts=[part], base=self._base)
        self.commits.append(commit)
        log.info("commit %d: %d rows, %d done elsewhere meanwhile", commit.seq, commit.rows, commit.dropped)
        self._rows.clear()

    def snapshot(self) -> Counter[str]:
        """Rows so far by status; safe from other threads (the heartbeat's)."""
        with self._lock:
            return self.statuses.copy()
