"""What the guides say is what the code does: columns, settings, queries, links."""

from __future__ import annotations

import importlib
import re
import shlex
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import boto3
import duckdb
import pytest
from pydantic import BaseModel
from typer.main import get_command

from flows.cli import app
from flows.settings import Settings, load_settings
from pinco.catalog.manifest.readers import export_manifest
from pinco.catalog.manifest.schema import SCHEMA, Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.sheet.channels import read_channels
from pinco.catalog.sheet.reader import COLUMNS, parse_sheet
from pinco.catalog.sheet.template import PromptTemplate
from pinco.catalog.store.access import open_store

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _blocks(language: str) -> list[object]:
    """Every code block of a language, as test parameters."""
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


def _table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    text = (ROOT / page).read_text().split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[0].splitlines()[2:]]


def test_manifest_guide_lists_the_schema() -> None:
    documented = [
        (name, kind.removesuffix("?"), kind.endswith("?"))
        for names, kind, _ in _table("docs/guides/manifest.md", "## Columns")
        for name in re.findall(r"`(\w+)`", names)
    ]
    actual = [(field.name, re.sub(r"<\w+: (\w+)>", r"<\1>", str(field.type)), field.nullable) for field in SCHEMA]
    assert documented == actual


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the manifest.parquet of a store that holds one image and one failure."""
    folder = tmp_path_factory.mktemp("exported")
    asked = dict(
        run_id="run-1", row=2, sku="A-1", source_uri="a.png", source_sha256="0" * 64, prompt="a mug on a wooden table",
        channel="web", placement="original", placement_padding=0.08, working_width=128, working_height=128,
        delivery_width=512, delivery_height=512, variant=0, seed=7, attempts=1, created_at=datetime.now(UTC),
    )  # fmt: skip
    made = Row(
        job_id="1" * 64, generation_id="2" * 64, status="ok", image_uri="images/a.png", image_sha256="3" * 64,
        recipe="{}", core_identical=True, extension=0.2, seconds=1.5, **asked,
    )  # fmt: skip
    failed = Row(
        job_id="4" * 64, status="failed", error_type="empty_photo", error_message="The file is empty.", **asked
    )
    store = open_store(str(folder / "out"))
    table = ManifestTable(store)
    table.append([made, failed], run_id="run-1", batch=1, base=0)
    assert export_manifest(table, folder / "manifest.parquet") == 2
    return folder


@pytest.mark.parametrize("query", _blocks("sql"))
def test_query_in_the_docs_answers(query: str, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    assert duckdb.sql(query).fetchall()


ELSEWHERE = ("pandas", "pyspark", "INSTALL delta")
"""What the examples of the manifest's guide may need that tests do without: packages, a download."""


@pytest.fixture(scope="module")
def store_on_s3(s3_endpoint: str, exported: Path) -> str:
    """The same manifest at the address that the guide names."""
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="catalog")
    for path in (exported / "out").rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "catalog", f"spring/{path.relative_to(exported / 'out').as_posix()}")
    return s3_endpoint


@pytest.mark.parametrize("example", [block for block in _blocks("python") if "manifest.md" in str(block.id)])
def test_example_in_the_manifests_guide_reads_the_table(
    example: str, exported: Path, store_on_s3: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = compile(example, "manifest.md", "exec")
    if any(word in example or f"to_{word}" in example for word in ELSEWHERE):
        return
    monkeypatch.chdir(exported)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store_on_s3)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    exec(compiled, {})
    assert re.search(r"ok|run-1|\b2\b", capsys.readouterr().out), "two rows are there, and one of them is ok"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (anchor and anchor not in _anchors(goal)):
            lost.append(target)
    assert lost == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_sheet_guide_lists_the_columns() -> None:
    documented = [name.strip("`") for name, *_ in _table("docs/guides/sheets.md", "## Columns")]
    assert set(documented) == {*COLUMNS, "var:NAME"}
    assert len(documented) == len(set(documented))


@pytest.mark.parametrize(
    "sheet", re.findall(r"```csv\n(.*?)```", (ROOT / "docs/guides/sheets.md").read_text(), re.DOTALL)
)
def test_sheet_in_the_guide_can_be_read(sheet: str) -> None:
    assert parse_sheet(sheet.encode(), "sheet.csv").errors == ()


COMMANDS = sorted({line for page in PAGES for line in re.findall(r"^pinco .*$", page.read_text(), re.MULTILINE)})


@pytest.mark.parametrize("line", COMMANDS)
def test_command_in_the_docs_can_be_typed(line: str) -> None:
    command: Any = get_command(app)
    words = shlex.split(line, comments=True)[1:]
    name = "pinco"
    while hasattr(command, "commands"):
        name = words.pop(0)
        command = command.commands[name]
    command.make_context(name, words)  # parses, complains about what is unknown or missing, runs nothing


@pytest.mark.parametrize("config", _blocks("yaml"))
def test_settings_in_the_docs_are_valid(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pinco.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert read_channels(settings.channels)
    assert all(PromptTemplate(text) for text in settings.templates.values())


def test_readme_lists_every_setting() -> None:
    documented = {name for names, *_ in _table("README.md", "## Settings") for name in re.findall(r"`([\w.]+)`", names)}
    assert documented == set(_setting_names(Settings))


def _setting_names(model: type, prefix: str = "") -> list[str]:
    """Dotted names of all settings, sections resolved."""
    kinds = get_type_hints(model)
    names = [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)
    found = []
    for name in names:
        section = kinds[name]
        if isinstance(section, type) and (is_dataclass(section) or issubclass(section, BaseModel)):
            found += _setting_names(section, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def test_the_way_of_a_row_names_functions_that_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    names = re.findall(r"^\d+\. `([\w.]+)`", text, re.MULTILINE)
    assert 10 < len(names) <= 20
    for name in names:
        assert callable(_resolve(name)), name


def _resolve(name: str) -> Any:
    """The object behind a dotted name: the longest prefix that is a module, then attributes."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is not a module")
