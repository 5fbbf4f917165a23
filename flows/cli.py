"""The `pinco` command. Every command imports what it needs when it runs: `--help` and planning are quick."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated

import typer

from flows.commands import adapter, check, demo, manifest, plan, replay, retry, run, toy, validate
from flows.quiet_libraries import quiet_libraries

quiet_libraries()  # before a command imports them

# What transformers lacks for models that are not used here is no concern of who runs a command.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

app = typer.Typer(
    name="pinco",
    help="Catalog images from product photos and a prompt sheet, with the product itself untouched.",
    epilog="Settings come from pinco.yaml, then PINCO_... variables, then flags. A first look: pinco demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pinco {version('pinco')}")
        raise typer.Exit


@app.callback()
def pinco(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Catalog images from product photos and a prompt sheet, with the product itself untouched."""


app.command("demo")(demo.demo)
app.command("validate")(validate.validate)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.add_typer(manifest.app, name="manifest")
app.command("check")(check.check)
app.command("replay")(replay.replay)
app.command("retry")(retry.retry)
app.add_typer(adapter.app, name="adapter")
app.add_typer(toy.app, name="toy")


if __name__ == "__main__":
    app()
