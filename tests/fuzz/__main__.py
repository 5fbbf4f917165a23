"""Prints the table of `docs/reliability.md`: `python -m tests.fuzz`, from the root of the repository.

Exits with 1 where an error was untyped or an input took too long; each is printed with its seed and its bytes.
"""

from __future__ import annotations

import argparse
import logging
import sys

from tests.fuzz.run import run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz all targets, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=4000, help="inputs per target (4000)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other inputs (0)")
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS], help="only this one")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # caches that say what they make again
    print("| Target | Inputs | Read | Typed errors | Untyped errors | Slowest, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    failures = []
    for target in TARGETS:
        if options.target and target.name not in options.target:
            continue
        outcome = run(target, options.inputs, seed=options.seed)
        typed = outcome.typed.total()
        read = outcome.inputs - typed - outcome.untyped
        cells = (target.name, outcome.inputs, read, typed, outcome.untyped, round(1000 * outcome.slowest))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        failures += outcome.failures
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
