from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pinco.catalog.photos.listing import read_catalog
from pinco.catalog.sheet.channels import BUILT_IN, Channel
from pinco.catalog.sheet.image_requests import ImageRequest, SheetSettings, resolve_rows
from pinco.catalog.sheet.problems import Problems
from pinco.catalog.sheet.reader import parse_sheet
from preprocessing.canvas import Placement

Resolve = Callable[..., tuple[list[ImageRequest], Problems]]
SETTINGS = SheetSettings(
    channels={**BUILT_IN, "web": Channel("web", (1200, 800), "webp", 80)},
    templates={"table": "a {{ colour }} {{ name }} on {{ place }}", "plain": "{{ name }}"},
    negative="text",
    placement=Placement("centre", 0.5, 0.1),
)


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """The requests of a sheet over a catalog of a red mug 007 and a lamp 008 whose colour is not known."""
    (tmp_path / "7.png").write_bytes(b"x")
    (tmp_path / "8.png").write_bytes(b"x")
    (tmp_path / "c.csv").write_text("sku,image,name,colour\n007,7.png,mug,red\n008,8.png,lamp,\n")

    def run(text: str, settings: SheetSettings = SETTINGS) -> tuple[list[ImageRequest], Problems]:
        path = str(tmp_path / "s.csv")
        sheet = parse_sheet(text.encode(), path)
        problems = Problems(path)
        return resolve_rows(sheet, read_catalog(str(tmp_path / "c.csv")), settings, problems), problems

    return run


def prompts(found: tuple[list[ImageRequest], Problems]) -> list[str]:
    requests, problems = found
    assert (problems.errors, problems.warnings) == ([], [])
    return [request.prompt for request in requests]


def test_templates_use_the_catalogs_columns_and_the_sheets_variables(resolve: Resolve) -> None:
    text = "sku,template,var:place,var:colour\n007,table,wood | sand,\n008,table,snow,white\n"
    assert prompts(resolve(text)) == ["a red mug on wood", "a red mug on sand", "a white lamp on snow"]


def test_the_sheets_variable_replaces_the_catalogs_column(resolve: Resolve) -> None:
    assert prompts(resolve("sku,template,var:colour\n007,{{ colour }} {{ sku }},blue\n")) == ["blue 007"]


def test_lists_are_crossed_or_zipped(resolve: Resolve) -> None:
    text = "sku,template,var:a,var:b,expand\n007,{{ a }}{{ b }},1 | 2,x | y,{how}\n"
    assert prompts(resolve(text.replace("{how}", "cross"))) == ["1x", "1y", "2x", "2y"]
    assert prompts(resolve(text.replace("{how}", "zip"))) == ["1x", "2y"]


def test_prompts_are_used_word_for_word(resolve: Resolve) -> None:
    requests, problems = resolve("sku,prompt\n007,a | b {{ c }}\n")
    assert [request.prompt for request in requests] == ["a | b {{ c }}"]
    assert "used word for word" in problems.warnings[0].message


def test_variants_take_the_seeds_after_the_given_one(resolve: Resolve) -> None:
    requests, _ = resolve("sku,prompt,n,seed\n007,x,3,4294967294\n008,x,2,\n")
    assert [(request.variant, request.seed) for request in requests] == [
        (0, 4294967294),
        (1, 4294967295),
        (2, 0),
        (0, None),
        (1, None),
    ]


def test_defaults_and_what_a_row_says_instead(resolve: Resolve) -> None:
    (plain, own), _ = resolve(
        "sku,prompt,channel,size,placement,scale,negative\n007,x,,,,,\n007,y,web,640x480,bottom,0.9,people\n"
    )
    assert (plain.channel, plain.placement, plain.negative) == (
        BUILT_IN["square"],
        Placement("centre", 0.5, 0.1),
        "text",
    )
    assert (own.channel, own.placement, own.negative) == (
        Channel("web", (640, 480), "webp", 80),
        Placement("bottom", 0.9, 0.1),
        "people",
    )


def test_a_size_of_the_rows_own_leaves_the_rest_of_its_channel(resolve: Resolve) -> None:
    square = Channel("square", (512, 512), "webp", 70, "srgb", "fill")
    (request,), _ = resolve("sku,prompt,size\n007,x,640x480\n", SheetSettings(channels={"square": square}))
    assert request.channel == replace(square, size=(640, 480))


def test_a_size_may_be_the_photos_own(resolve: Resolve) -> None:
    (request,), _ = resolve("sku,prompt,size\n007,x,source\n")
    assert request.channel.size == "source"


@pytest.mark.parametrize(
    ("row", "column", "message", "suggestion"),
    [
        ("007,,,table,", "template", "{{ place }} has no value", "Add a column var:place"),
        ("008,,,table,x", "template", "{{ colour }} has no value", "Add a column var:colour"),
        ("007,,,{{ nmae }},x", "template", "{{ nmae }} has no value", "Did you mean 'name'?"),
        ("007,,,tabel,x", "template", "no template of this name", "Did you mean 'table'?"),
        ("007,,,on a table,x", "template", "no template of this name", "belongs in the column prompt"),
        ("007,,,{{ name,x", "template", "cannot be read", ""),
        ("007,wbe,x,,", "channel", "unknown", "Did you mean 'web'?"),
        ("0O7,,x,,", "sku", "no such product", "Did you mean '007'?"),
    ],
)
def test_errors_name_the_way_out(resolve: Resolve, row: str, column: str, message: str, suggestion: str) -> None:
    requests, problems = resolve(f"sku,channel,prompt,template,var:place\n{row}\n")
    assert requests == []
    (error,) = problems.errors
    assert (error.row, error.column) == (2, column)
    assert message in error.message
    assert suggestion in (error.suggestion or "")


def test_all_errors_of_a_row_are_reported_together(resolve: Resolve) -> None:
    _, problems = resolve("sku,channel,template,var:a,var:b,expand\nxxxx,nope,{{ a }},1 | 2,1 | 2 | 3,zip\n")
    assert {error.column for error in problems.errors} == {"sku", "channel", "expand"}


def test_variables_that_are_not_used_are_warned_about(resolve: Resolve) -> None:
    _, problems = resolve("sku,template,prompt,var:plce\n007,{{ name }},,x\n007,,fixed,y\n")
    assert [(warning.row, warning.column) for warning in problems.warnings] == [(2, "var:plce"), (3, "prompt")]


def test_equal_prompts_are_made_once(resolve: Resolve) -> None:
    requests, _ = resolve("sku,template,var:a\n007,{{ name }},1 | 2\n")
    assert len(requests) == 1
