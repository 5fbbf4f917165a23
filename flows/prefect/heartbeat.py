"""A run's progress as a Prefect artifact, kept up to date while images are made."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress import Snapshot, Watch, describe, every

log = logging.getLogger(__name__)


def heartbeat(seconds: float) -> Watch:
    """A progress artifact, updated every `seconds`: a run that stands still can be seen from outside."""

    @contextmanager
    def watch(snapshot: Snapshot, total: int) -> Iterator[None]:
        context = contextvars.copy_context()  # knows the task run that the artifact belongs to
        artifact = None

        def beat() -> None:
            nonlocal artifact
            counts = snapshot()
            share, text = 100.0 * counts.total() / total, f"{counts.total()} of {total}: {describe(counts)}"
            try:
                if artifact is None:
                    artifact = context.run(create_progress_artifact, share, description=text)
                else:
                    context.run(update_progress_artifact, artifact, share, text)
            except Exception as error:  # a server that restarts must not end the night
                log.warning("the heartbeat could not be sent: %s", error)

        with every(seconds, beat):
            yield

    return watch
