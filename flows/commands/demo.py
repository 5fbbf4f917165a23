"""`pinco demo`: drawn products, a sheet, and the real run on both."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.errors import cli_errors, exit_code

if TYPE_CHECKING:
    from flows.driver.run import RunSummary

PLACES = ("on a wooden table", "on green grass", "in front of a brick wall", "in the snow")


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for everything.")] = Path("pinco-demo"),
    products: Annotated[int, typer.Option("--products", min=1, metavar="N", help="How many products to draw.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Decides the products.")] = 0,
) -> None:
    """Draw a few products, write a prompt sheet and make the catalog with the built-in model.

    It is the ordinary run: `pinco run DIR/sheet.csv --catalog DIR/photos --store DIR/store` goes on from there.
    """
    from flows.planning import CatalogRequest
    from flows.settings import load_settings
    from flows.start import start_run
    from pinco.catalog.manifest.readers import export_manifest
    from pinco.catalog.manifest.table import open_manifest
    from pinco.toy.drawing.photos import write_demo_photos

    with cli_errors():
        settings = load_settings()
        began = time.perf_counter()
        photos = write_demo_photos(out / "photos", products, seed)
        sheet = write_sheet(out / "sheet.csv", photos)
        drawn = time.perf_counter() - began
        typer.echo(f"{len(photos)} products drawn, {len(photos) * len(PLACES)} images asked for in {sheet}")
        summary = start_run(CatalogRequest(str(sheet), str(out / "photos"), str(out / "store")), settings)
        manifest = out / "manifest.parquet"
        export_manifest(open_manifest(str(out / "store")), manifest)
    _say(summary, out, manifest, drawn)
    raise typer.Exit(exit_code(summary.error))


def write_sheet(path: Path, photos: list[Path]) -> Path:
    """One row per product, with the places as a list that a template goes through."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "template", "var:product", "var:place"])
        for photo in photos:
            colour, kind, _ = photo.stem.split("-")
            article = "an" if colour[0] in "aeiou" else "a"
            rows.writerow([photo.stem, "{{ product }} {{ place }}", f"{article} {colour} {kind}", " | ".join(PLACES)])
    return path


def _say(summary: RunSummary, out: Path, manifest: Path, drawn: float) -> None:
    from flows.commands.show import print_summary

    print_summary(summary)
    typer.echo("")
    typer.echo(f"Photos        {(out / 'photos').resolve()}")
    typer.echo(f"Pictures      {(out / 'store' / 'images').resolve()}")
    typer.echo(f"Manifest      {manifest.resolve()}")
    if summary.report:
        typer.echo(f"Contact sheet {summary.report}")
    typer.echo(f"Drawing the products took {drawn:.1f} s.")
