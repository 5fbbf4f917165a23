"""`pinco adapter init` and `pinco adapter info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.commands.errors import cli_errors
from pinco.errors import PincoError

if TYPE_CHECKING:
    from pinco.adapter import PincoAdapter

app = typer.Typer(help="Adapters: make a new one for a backbone, or look at one.", no_args_is_help=True)

SIDE = 1024
SHARE = 4
"""With pruning, keys and values are named for a product that covers a quarter of the canvas."""


class AdapterOptionError(PincoError, ValueError):
    """An option of `pinco adapter` that cannot be understood."""

    code = "adapter_option"


@app.callback()
def adapter() -> None:
    """Adapters: make a new one for a backbone, or look at one."""


@app.command()
def init(
    backbone: Annotated[str, typer.Option("--backbone", metavar="DIR", help="Folder of the backbone.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path("adapter"),
    layers: Annotated[
        str,
        typer.Option("--layers", metavar="L", help="all, a group of the backbone's (double, single, ...), or 0,1,2-5."),
    ] = "all",
    rank: Annotated[
        str, typer.Option("--rank", metavar="R", help="Of the projections: auto, full, or a whole number.")
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how large it would be.")] = False,
) -> None:
    """Make a new, untrained adapter for a backbone. Until it is trained, its images are the bare backbone's."""
    with cli_errors():
        chosen, number = _layers(layers), _rank(rank)
        if not dry_run and out.exists() and any(out.iterdir()):
            raise AdapterOptionError(f"{out} is not empty: name another folder with --out")
        from pinco.generation.settings import ModelSettings
        from pinco.generation.weights import find_weights
        from pinco.pipelines.new_adapter import new_adapter, weightless_adapter

        folder = find_weights(ModelSettings(backbone=backbone)).backbone
        make = weightless_adapter if dry_run else new_adapter
        made = make(folder, layers=chosen, rank=number)
        if not dry_run:
            made.save_pretrained(out)
    _describe(made)
    if not dry_run:
        typer.echo(f"Written to  {out.resolve()}")


@app.command()
def info(folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of an adapter.")]) -> None:
    """Say what an adapter was made for, how large it is, and what its gates have learnt."""
    with cli_errors():
        from pinco.adapter import PincoAdapter

        if not (Path(folder) / "config.json").is_file():
            raise AdapterOptionError(
                f"there is no adapter in {folder}: name a folder with its config.json, as `pinco adapter init` or "
                "`pinco toy train` write it"
            )
        loaded: PincoAdapter = PincoAdapter.from_pretrained(folder, local_files_only=True)
    _describe(loaded)
    strongest = {number: float(gate.abs().max()) for number, gate in loaded.gates().items()}
    open_layers = [number for number, gate in strongest.items() if gate > 0]
    if open_layers:
        most = max(strongest, key=lambda number: strongest[number])
        typer.echo(
            f"Gates       open in {len(open_layers)} layers; the strongest is {strongest[most]:.3f}, layer {most}"
        )
    else:
        typer.echo("Gates       all zero: it is not trained, and its images are the bare backbone's")


def _describe(made: PincoAdapter) -> None:
    from pinco.adapter.sizes import adapter_sizes

    settings, sizes = made.settings, adapter_sizes(made)
    rank = "full rank" if settings.rank is None else f"rank {settings.rank}"
    branches = [settings.semantic == "vae" and "latents", settings.shape != "none" and "shape maps"]
    maps = [name for name in ("mask", "depth", "sobel") if getattr(settings, f"use_{name}")]
    typer.echo(f"For         {settings.family}, {settings.depth} attention layers of {settings.num_heads} heads x "
               f"{settings.head_dim}, {settings.latent_channels} latent channels")  # fmt: skip
    typer.echo(f"Enters      {sizes.layers} layers, {rank}, one gate per {settings.gate}, positions "
               f"{'on' if settings.anchor else 'off'}, pruning {'on' if settings.prune else 'off'}")  # fmt: skip
    typer.echo(f"Sees        {' and '.join(name for name in branches if name)} ({', '.join(maps)})")
    typer.echo(f"Parameters  {_millions(sizes.parameters)}: extractor {_millions(sizes.extractor)}, projections "
               f"{_millions(sizes.projections)}")  # fmt: skip
    tokens = (SIDE // settings.backbone.token_stride) ** 2
    what = "with a product on a quarter of it" if settings.prune else "whatever the product's size"
    kept = sizes.cache_bytes(tokens // SHARE if settings.prune else tokens)
    typer.echo(f"Memory      {kept / 2**20:.0f} MiB of keys and values for a canvas of {SIDE} x {SIDE} pixels, {what}, "
               "in 16 bit")  # fmt: skip


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"


def _layers(text: str) -> str | tuple[int, ...]:
    """Layer numbers and ranges, or a name."""
    if not text[:1].isdigit():
        return text
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise AdapterOptionError(f"--layers takes all, a group's name, or numbers such as 0,1,2-5, not {text!r}")
        numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(dict.fromkeys(numbers))


def _rank(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    if text == "full":
        return None
    if not text.isdigit():
        raise AdapterOptionError(f"--rank takes auto, full, or a whole number, not {text!r}")
    return int(text)
