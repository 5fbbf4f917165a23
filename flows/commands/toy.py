"""`pinco toy train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    from pinco.toy.recipe.train import train_toy

    train_toy(out, seed, preset)
