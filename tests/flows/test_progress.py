from __future__ import annotations

import io
import threading
from collections import Counter

from rich.console import Console

from flows.progress import bar, describe, every, no_progress, terminal


def test_statuses_in_words() -> None:
    assert describe(Counter(ok=12, failed=1)) == "12 ok, 1 failed"
    assert describe(Counter()) == "starting"


def test_the_bar_asks_and_shows() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with bar(console)(lambda: Counter(ok=3), 4):
        pass
    assert "3/4" in out.getvalue() and "3 ok" in out.getvalue()


def test_progress_goes_to_the_error_stream() -> None:
    assert terminal().stderr


def test_unseen_shows_nothing_and_asks_nothing() -> None:
    with no_progress(lambda: Counter(1 / 0), 4):  # type: ignore[arg-type]
        pass


def test_it_beats_at_once_regularly_and_at_the_end() -> None:
    beats: list[int] = []
    three = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) >= 3:
            three.set()

    with every(0.01, beat):
        assert three.wait(30)
    ended = len(beats)
    assert ended >= 4
    threading.Event().wait(0.05)
    assert len(beats) == ended
