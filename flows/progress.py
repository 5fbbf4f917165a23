"""How a run shows that it is alive: a progress bar in a terminal, an artifact in Prefect."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Snapshot = Callable[[], Counter[str]]


class Watch(Protocol):
    """Called with a way to ask for the rows by status, and how many rows there will be; shows them until it is left."""

    def __call__(self, snapshot: Snapshot, total: int) -> AbstractContextManager[None]: ...


def terminal() -> Console:
    """Where progress goes: standard error, so that standard output stays for results."""
    return Console(stderr=True)


def describe(counts: Counter[str]) -> str:
    """For example `12 ok, 1 failed`."""
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "starting"


def bar(console: Console) -> Watch:
    """A rich progress bar on `console`."""

    @contextmanager
    def watch(snapshot: Snapshot, total: int) -> Iterator[None]:
        columns = (
            TextColumn("making images"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[statuses]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total, statuses="starting")

            def show() -> None:
                counts = snapshot()
                progress.update(task, completed=counts.total(), statuses=describe(counts))

            with every(0.5, show):
                yield

    return watch


@contextmanager
def no_progress(snapshot: Snapshot, total: int) -> Iterator[None]:
    """Shows nothing."""
    yield


@contextmanager
def every(seconds: float, show: Callable[[], None]) -> Iterator[None]:
    """Call `show` every so often in a thread of its own, and once more at the end; the first call comes at once."""
    done = threading.Event()

    def beat() -> None:
        while True:
            show()
            if done.wait(seconds):
                return

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)
        show()
