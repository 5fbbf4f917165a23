from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.sheet.reader import COLUMNS, Sheet, SheetRow, parse_sheet, read_sheet
from pinco.catalog.store.access import StoreAccess, open_store


def parse(text: str) -> Sheet:
    return parse_sheet(text.encode(), "night.csv")


def said(sheet: Sheet) -> list[tuple[int | None, str | None, str]]:
    return [(error.row, error.column, error.message) for error in sheet.errors]


def test_every_column_is_parsed() -> None:
    sheet = parse(
        "sku;image;template;var:place;var:mood;negative;channel;size;n;seed;placement;scale;expand\n"
        "0042;a.png;{{ place }};wood | sand;calm;text;web;800x600;3;7;bottom;60%;zip\n"
    )
    assert (sheet.errors, sheet.warnings) == ((), ())
    assert sheet.rows == (
        SheetRow(
            row=2,
            sku="0042",
            image="a.png",
            prompt=None,
            template="{{ place }}",
            variables={"place": ("wood", "sand"), "mood": ("calm",)},
            negative="text",
            channel="web",
            size=(800, 600),
            n=3,
            seed=7,
            placement="bottom",
            scale=0.6,
            expand="zip",
        ),
    )


def test_empty_cells_mean_the_defaults() -> None:
    (row,) = parse("sku,prompt,n,seed,size,expand\n0042,on wood,,,,\n").rows
    assert (row.sku, row.prompt, row.n, row.seed, row.size, row.expand) == ("0042", "on wood", 1, None, None, "cross")
    assert (row.image, row.template, row.variables, row.channel) == (None, None, {}, None)


def test_headers_may_differ_in_case_and_quotes() -> None:
    (row,) = parse("SKU, Prompt ,VAR: Place ,“Seed”\n1,{{ Place }},x,5\n").rows
    assert (row.sku, row.variables, row.seed) == ("1", {"Place": ("x",)}, 5)


def test_composed_and_decomposed_accents_are_one_text() -> None:
    one, two = parse("sku,prompt\n1,Cafe\u0301\n2,Caf\u00e9\n").rows
    assert one.prompt == two.prompt


def test_all_errors_are_reported_together() -> None:
    sheet = parse(
        "sku,prompt,template,n,seed,size,scale,placement,expand,var:a b,promt\n"
        ",x,,many,-1,tiny,7,top,both,,\n"
        "2,x,y,,,,,,,,\n"
        "3,,,,,,,,,,\n"
    )
    assert {(row, column) for row, column, _ in said(sheet)} == {
        (1, "var:a b"),
        (1, "promt"),
        (2, "n"),
        (2, "seed"),
        (2, "size"),
        (2, "scale"),
        (2, "placement"),
        (2, "expand"),
        (2, "sku"),
        (3, "template"),
        (4, "prompt"),
    }
    assert all(error.file == "night.csv" for error in sheet.errors)
    by_column = {error.column: error for error in sheet.errors}
    assert by_column["promt"].suggestion == "Did you mean 'prompt'?"
    assert by_column["var:a b"].suggestion == "Call it var:a_b."
    assert (by_column["seed"].value, by_column["n"].value) == ("-1", "many")


def test_rows_with_a_wrong_cell_are_kept_for_further_checks() -> None:
    sheet = parse("sku,prompt,n,channel\n1,x,many,web\n")
    assert [(row.channel, row.n) for row in sheet.rows] == [("web", 1)]
    assert len(sheet.errors) == 1


def test_a_wrong_list_is_an_error() -> None:
    assert said(parse("sku,template,var:a\n1,{{ a }},x | | y\n")) == [
        (2, "var:a", "there is an empty value in this list")
    ]


def test_an_unknown_column_may_be_a_variable() -> None:
    (error,) = parse("sku,prompt,colour\n1,x,red\n").errors
    assert "called var:colour" in str(error.suggestion)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header row"),
        ("sku,prompt\n", "the sheet has no rows"),
        ("prompt\nx\n", "the column sku is missing"),
        ("sku,image\n1,a.png\n", "there is no column prompt"),
        ("product,text\n1,x\n", "the column sku is missing"),
    ],
)
def test_sheets_that_cannot_be_run_at_all(text: str, message: str) -> None:
    with pytest.raises(SheetError, match=message):
        parse(text)


def test_sheets_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes("sku,prompt\n1,“blue”\n".encode("cp1252"))
    sheet = read_sheet(path)
    assert (sheet.path, sheet.rows[0].prompt, len(sheet.warnings)) == (str(path), "“blue”", 1)
    with pytest.raises(SheetError, match=r"none\.csv: the sheet cannot be read"):
        read_sheet(tmp_path / "none.csv")


def test_sheets_are_read_from_s3(bucket: str, s3_endpoint: str) -> None:
    open_store(f"s3://{bucket}", StoreAccess(s3_endpoint)).put_if_absent("s.csv", b"sku,prompt\n007,x\n")
    assert read_sheet(f"s3://{bucket}/s.csv", access=StoreAccess(s3_endpoint)).rows[0].sku == "007"


@given(st.lists(st.sampled_from([*COLUMNS, "var:x", "colour"]), unique=True), st.lists(st.lists(st.text(max_size=8))))
def test_any_cells_are_read_or_refused(columns: list[str], rows: list[list[str]]) -> None:
    lines = [columns, *rows]
    text = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    try:
        sheet = parse_sheet(text.encode("utf-8", "replace"), "s.csv")
    except SheetError as errors:
        assert errors.errors
    else:
        assert sheet.rows
        assert sheet.errors or all(row.sku and (row.prompt or row.template) for row in sheet.rows)
