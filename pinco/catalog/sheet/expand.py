"""How a row with lists of values becomes several prompts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from pinco.catalog.sheet.cells import Expand
from pinco.errors import PincoError

MAX_PROMPTS = 10_000
"""Per row; more is a mistake."""


class ExpandError(PincoError, ValueError):
    """The lists of a row cannot be combined."""

    code = "invalid_expand"


def expand(variables: Mapping[str, tuple[str, ...]], how: Expand) -> list[dict[str, str]]:
    """All combinations of values.

    Args:
        variables: Lists of values by name.
        how: "cross": every value with every other; the first variable changes slowest. "zip": the k-th values of all
            lists together; lists of one value are used with all.

    Returns:
        One mapping of names to values per prompt.

    Raises:
        ExpandError: Zipped lists differ in length, or there would be more than `MAX_PROMPTS` prompts.
    """
    if how == "zip":
        lengths = {name: len(values) for name, values in variables.items() if len(values) > 1}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ExpandError(f"lists that are zipped must have the same length, but {counts} values")
        count = max(lengths.values(), default=1)
        _check_count(count)
        return [{name: values[k if len(values) > 1 else 0] for name, values in variables.items()} for k in range(count)]
    total = math.prod(len(values) for values in variables.values())
    _check_count(total)
    return [dict(zip(variables, values, strict=True)) for values in itertools.product(*variables.values())]


def _check_count(prompts: int) -> None:
    if prompts > MAX_PROMPTS:
        raise ExpandError(f"the lists make {prompts} prompts; at most {MAX_PROMPTS} per row are allowed")
