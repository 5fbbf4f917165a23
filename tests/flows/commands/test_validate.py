from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Pinco = Callable[..., Result]


def test_a_good_sheet(pinco: Pinco, shop: tuple[Path, Path]) -> None:
    done = pinco("validate", shop[0], "--catalog", shop[1])
    assert (done.exit_code, "no errors" in done.output) == (0, True)


def test_a_bad_sheet_ends_with_2_and_every_mistake(pinco: Pinco, shop: tuple[Path, Path]) -> None:
    shop[0].write_text("sku,prompt,scale\nball,on grass,7\nbal,on sand,\n")
    done = pinco("validate", shop[0], "--catalog", shop[1])
    assert done.exit_code == 2
    assert "row 2, column scale" in done.output and "row 3, column sku" in done.output
    assert "2 errors to fix" in done.output


def test_json_for_programs(pinco: Pinco, shop: tuple[Path, Path]) -> None:
    shop[0].write_text("sku,prompt\nbal,on sand\n")
    done = pinco("validate", shop[0], "--catalog", shop[1], "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["valid"], said["errors"][0]["row"]) == (2, False, 2)
    shop[0].write_text("sku,prompt\nball,on sand\n")
    assert json.loads(pinco("validate", shop[0], "--catalog", shop[1], "--json").stdout)["valid"] is True
