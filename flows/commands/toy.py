"""`pinco toy train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.errors import cli_errors

app = typer.Typer(help="The built-in model.", no_args_is_help=True)


@app.callback()
def toy() -> None:
    """The built-in model."""


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for weights and model card.")] = Path("toy"),
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Decides drawings, weights and order.")] = 0,
    preset: Annotated[str, typer.Option("--preset", metavar="NAME", help="Size of the training.")] = "full",
) -> None:
    """Make the built-in model again from a seed: backbone, adapter and instruments, with a model card."""
    with cli_errors():
        from pinco.toy.recipe.train import train_toy

        model = train_toy(out, seed, preset)
    _say(model)


def _say(model: Path) -> None:
    from pinco.generation.builtin import ADAPTER, BACKBONE
    from pinco.toy.recipe.card import CARD

    backbone, adapter = model / BACKBONE, model / ADAPTER
    typer.echo(f"Backbone    {backbone.resolve()}")
    typer.echo(f"Adapter     {adapter.resolve()}")
    typer.echo(f"Model card  {(model / CARD).resolve()}")
    typer.echo("Make images with them:")
    typer.echo(f"  pinco run SHEET --catalog PHOTOS --store STORE --backbone {backbone} --adapter {adapter}")
