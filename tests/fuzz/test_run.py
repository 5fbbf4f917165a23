"""The fuzzer sees what it is there for."""

from __future__ import annotations

import base64
import random
import time

import pytest

from preprocessing.errors import EmptyPhotoError
from tests.fuzz import run as module
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target, run


def _number(chance: random.Random) -> bytes:
    return bytes([chance.randrange(4)])


def _read(data: bytes) -> None:
    match data[0]:
        case 0:
            raise EmptyPhotoError("typed")
        case 1:
            raise KeyError("untyped")
        case 2:
            raise SystemExit


def test_untyped_errors_are_reported_with_seed_and_input() -> None:
    outcome = run(Target("numbers", _number, _read), 100)
    assert outcome.inputs == 100
    assert outcome.typed["empty_photo"] > 10
    assert outcome.untyped == len(outcome.failures) > 20
    assert any("SystemExit" in failure for failure in outcome.failures)
    first = next(failure for failure in outcome.failures if "KeyError" in failure)
    seed = first.split("'")[1]
    assert _number(random.Random(seed)) == base64.b64decode(first.rpartition(" ")[2]) == b"\1"


def test_slow_inputs_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOWEST", 0.01)
    outcome = run(Target("slow", _number, lambda data: time.sleep(0.02)), 3)
    assert len(outcome.failures) == 3 and outcome.untyped == 0
    assert outcome.slowest >= 0.02


def test_an_interrupt_ends_the_run() -> None:
    def interrupt(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Target("interrupted", _number, interrupt), 3)


def test_a_seed_always_gives_the_same_input_and_others_give_others() -> None:
    data = bytes(range(256))
    inputs = [mutated(data, random.Random(f"x:{number}"), [data]) for number in range(200)]
    assert inputs == [mutated(data, random.Random(f"x:{number}"), [data]) for number in range(200)]
    assert len(set(inputs)) > 150
    assert all(isinstance(mutated(b"", random.Random(number)), bytes) for number in range(20))
