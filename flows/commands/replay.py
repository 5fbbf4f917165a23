"""`pinco replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.errors import cli_errors
from flows.commands.options import AdapterOption, BackboneOption, ControlNetOption, EndpointOption, StoreArgument


def replay(
    store: StoreArgument,
    generation_id: Annotated[str, typer.Argument(metavar="GENERATION_ID", help="Its first digits are enough.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the image.")],
    backbone: BackboneOption = None,
    adapter: AdapterOption = None,
    controlnet: ControlNetOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Make an image again from its manifest row, and say how the two compare.

    The same bytes on the CPU, with the same lock, processor type and thread count; elsewhere the same product.
    """
    from flows.settings import load_settings
    from pinco.generation.replay import replay as make_again

    with cli_errors():
        settings = load_settings(
            s3_endpoint=s3_endpoint,
            model__backbone=backbone,
            model__adapter=adapter,
            model__controlnet=controlnet,
        )
        again = make_again(store, generation_id, settings.model, access=settings.access, threads=settings.ray.threads)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(again.file)
    typer.echo(f"{out}: {again.row.sku}, {again.row.prompt!r}, seed {again.row.seed}")
    if again.same_file:
        typer.echo("The same bytes as the stored image.")
    elif again.same_pixels:
        typer.echo("The same pixels as the stored image, in another file.")
    else:
        core = "The product is identical" if again.core_identical else "The product's core DIFFERS from its photo"
        typer.echo(f"{core}; the picture as a whole has a PSNR of {again.psnr:.1f} dB to the stored one.")
