"""Prompt sheets and templates: damaged files, and rows made of the cells that people and attackers write."""

from __future__ import annotations

import csv
import io
import random
from datetime import UTC, datetime

from pinco.catalog.photos.listing import Catalog, CatalogPhoto
from pinco.catalog.sheet.csv_table import DELIMITERS
from pinco.catalog.sheet.image_requests import SheetSettings, resolve_rows
from pinco.catalog.sheet.problems import Problems, SheetError
from pinco.catalog.sheet.reader import COLUMNS, parse_sheet
from pinco.catalog.sheet.template import FILTERS, TESTS, PromptTemplate
from pinco.catalog.store.base import ObjectInfo
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target

_CELLS = (
    "", " ", "0042", "42", "4.2E+01", "Café", "Cafe\u0301", "a mug on {{ place }}", "{{ place }", "{% if place %}x",
    "wood | sand | snow", "a || b", r"\|", "|" * 300, "512", "800x600", "99999999x1", "9" * 5000, "0" * 3000 + "z",
    "60%", "1e400", "-1", "٣", "nan", "cross", "zip", "source", "square", "original", "bottom", "s3://b/k.png",
    "s3://", "s3:///k", "file://[", "file:///a%00b", "gs://x/y", "..", "/", "~nobody/x.png", "a\\b.png", "x" * 20_000,
    "\u202eevil", "\x1b[31m", "=cmd|'/c calc'!A0", '="007"', '"', "\u00a0", "\ufeff", "{{ sku * 9 }}",
    "{{ '%9d' % 1 }}", "{{ place | upper }}",
)  # fmt: skip
_SOUND = {
    "sku": "0042", "prompt": "a mug on wood", "template": "a mug on {{ place }}", "var:place": "wood | sand", "n": "2",
    "channel": "square", "size": "512", "seed": "7", "placement": "bottom", "scale": "60%", "expand": "cross",
}  # fmt: skip
_HEADERS = (*COLUMNS, "var:place", "var:a b", "VAR: x", "colour", "sku ", "", "Prompt", "var:", "x" * 300)


def _sheet(chance: random.Random) -> bytes:
    """Sound rows with one or two odd cells, or none, under a header that may have an odd column."""
    header = ["sku", chance.choice(("prompt", "template", "Template ")), *chance.sample(COLUMNS[4:], 3), "var:place"]
    header += chance.sample(_HEADERS, chance.choice((0, 0, 0, 1)))
    rows = [[_SOUND.get(name.strip().casefold(), "") for name in header] for _ in range(chance.randrange(1, 6))]
    for _ in range(chance.choice((0, 1, 1, 2))):
        chance.choice(rows)[chance.randrange(len(header))] = chance.choice(_CELLS)
    text = io.StringIO()
    csv.writer(text, delimiter=chance.choice(DELIMITERS)).writerows([header, *rows])
    prefix = "sep=;\n" if chance.random() < 0.05 else ""
    data = (prefix + text.getvalue()).encode(chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
    return mutated(data, chance) if chance.random() < 0.5 else data


def _plan(data: bytes) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    photos = {
        sku: (CatalogPhoto(sku, f"/photos/{sku}.png", {"colour": "red"}, ObjectInfo(f"{sku}.png", 9, "e", now)),)
        for sku in ("0042", "Café", "a")
    }
    problems = Problems("sheet.csv")
    sheet = parse_sheet(data, "/sheets/sheet.csv")
    # S3 is a network: addresses there are the store's tests' concern.
    local = [row for row in sheet.rows if not (row.image or "").startswith("s3://")]
    sheet = type(sheet)(sheet.path, tuple(local), sheet.errors, sheet.warnings)
    resolve_rows(sheet, Catalog("/photos", "/photos", photos), SheetSettings(), problems)
    if sheet.errors or problems.errors:
        raise SheetError([*sheet.errors, *problems.errors])


_ATOMS = (
    "place", "place", "x", "x", "missing", "'text'", '""', "1", "0", "99999999999999999999", "1e308", "0x" + "f" * 40,
    "true", "none", "'%4000000000d'", "'{:>999999999}'", "''.__class__", "self", "loop", "range", "x.y", "x['y']",
    "[1]", "{}", "()",
)  # fmt: skip
_BINARY = (" ~ ", " + ", " * ", " ** ", " % ", " // ", " - ", " / ", " == ", " < ", " in ", " and ", " or ", " not in ")


def _expression(chance: random.Random, depth: int) -> str:
    if depth == 0:
        return chance.choice(_ATOMS)
    inner = _expression(chance, depth - 1)
    match chance.randrange(8):
        case 0:
            return f"({inner})"
        case 1:
            return inner + chance.choice(_BINARY) + _expression(chance, depth - 1)
        case 2:
            return f"{inner} | {chance.choice((*FILTERS, 'center(99999999)', 'attr', 'format', 'replace', 'list'))}"
        case 3:
            return f"{inner} | default({_expression(chance, depth - 1)})"
        case 4:
            test = chance.choice((*TESTS, "divisibleby", "sameas", "none", "callable"))
            return f"{inner} is {test} {chance.choice(_ATOMS)}"
        case 5:
            return f"{inner} if {_expression(chance, depth - 1)} else {chance.choice(_ATOMS)}"
        case 6:
            return chance.choice(("not ", "-", "+")) + inner
        case _:
            return chance.choice((f"{inner}()", f"{inner}.x", f"{inner}[0]", inner * 3, inner))


def _template(chance: random.Random) -> bytes:
    parts = []
    for _ in range(chance.randrange(1, 5)):
        expression = _expression(chance, chance.randrange(5))
        parts.append(
            chance.choice(
                (
                    f"{{{{ {expression} }}}}", f"{{% if {expression} %}}a{{% else %}}b{{% endif %}}", " on wood ",
                    f"{{% for i in {expression} %}}x{{% endfor %}}", f"{{% set y = {expression} %}}", "{# c #}",
                    f"{{% if {expression} %}}", "{{" * 50, f"{{{{ {expression * 40} }}}}", "{% raw %}{{", "\u201c",
                )
            )
        )  # fmt: skip
    data = "".join(parts).encode()
    return mutated(data, chance) if chance.random() < 0.3 else data


def _render(data: bytes) -> None:
    template = PromptTemplate(data.decode(errors="replace"))
    template.render({"place": "wood", "x": "y" * 3000, "sku": "0042"})


SHEET = Target("sheet", _sheet, _plan)
TEMPLATE = Target("template", _template, _render)
