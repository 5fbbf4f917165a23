"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from pinco.method_names import METHODS

SheetArgument = Annotated[str, typer.Argument(metavar="SHEET", help="Prompt sheet (CSV): a path or an s3:// address.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Folder or s3://bucket/prefix.")]
CatalogOption = Annotated[
    str,
    typer.Option(
        "--catalog", "-c", metavar="C", help="Product photos: a folder, an s3:// prefix, or a CSV or Parquet table."
    ),
]
StoreOption = Annotated[
    str,
    typer.Option("--store", "-s", metavar="URI", help="Where images and manifest go: a folder or s3://bucket/prefix."),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--s3-endpoint", metavar="URL", help="S3-compatible server. Default: as AWS is configured."),
]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", metavar="PATH", help="Folder or hub id of a backbone. Default: the built-in model."),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"By what images match their product: {', '.join(METHODS)}, or auto (by the weights that there are).",
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option("--adapter", metavar="PATH", help="Folder of a Pinco adapter for that backbone."),
]
ControlNetOption = Annotated[
    str | None,
    typer.Option("--controlnet", metavar="PATH", help="Folder of an inpainting ControlNet for that backbone."),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="quality, balanced, fast or draft: how many steps, and how."),
]
PlacementOption = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="NAME",
        help="Where weights wait: auto, resident, offload_text, offload_model or offload_sequential.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Make at most N images now.")]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="SKU", help="Only this product; can be repeated.")
]
RedoOption = Annotated[
    bool, typer.Option("--redo", help="Make images again that are done, for example with a new adapter.")
]
