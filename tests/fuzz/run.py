"""Runs a target over many inputs and says what came of each."""

from __future__ import annotations

import base64
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pinco.errors import PincoError

SLOWEST = 5.0
"""Seconds that one input may take."""


@dataclass(frozen=True)
class Target:
    """Something that reads inputs from outside.

    Attributes:
        name: As in the table.
        make: An input, from a source of chance.
        read: Reads the input; may raise a `PincoError`, and nothing else.
    """

    name: str
    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]


@dataclass
class Outcome:
    """What came of a target's inputs.

    Attributes:
        target: Its name.
        inputs: How many there were.
        typed: Errors by code.
        failures: A report of every untyped error, and of every input that took longer than `SLOWEST`.
        untyped: How many errors were untyped.
        slowest: Seconds that the slowest input took.
    """

    target: str
    inputs: int = 0
    typed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    untyped: int = 0
    slowest: float = 0.0


def run(target: Target, count: int, *, seed: int = 0) -> Outcome:
    """Try inputs number 0 to `count` - 1. Input number n of a seed is always the same."""
    outcome = Outcome(target.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about the damage
        for number in range(count):
            _try(target, f"{target.name}:{seed}:{number}", outcome)
    return outcome


def _try(target: Target, seed: str, outcome: Outcome) -> None:
    data = target.make(random.Random(seed))
    began = time.perf_counter()
    wrong = ""
    try:
        target.read(data)
    except PincoError as error:
        outcome.typed[error.code] += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome.untyped += 1
        wrong = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    outcome.inputs += 1
    outcome.slowest = max(outcome.slowest, seconds)
    if seconds > SLOWEST:
        wrong = f"{seconds:.1f} seconds {wrong}"
    if wrong:
        outcome.failures.append(f"seed {seed!r}: {wrong}\n  input, base64: {base64.b64encode(data).decode()}")
