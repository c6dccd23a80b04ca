"""The command line: one file a command. Heavy modules are imported inside the commands."""

import sys
from typing import Annotated

import typer

from pleach.cli import (
    balance,
    compress,
    convert,
    demo,
    evaluate,
    explore,
    export,
    info,
    sensitivity,
    simulate,
    synth,
    train,
)
from pleach.errors import ConfigError, PleachError

INTERRUPTED = 130

app = typer.Typer(
    name="pleach",
    help="Compress a PyTorch network into one bitstream and run that bitstream on an FPGA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo, train, sensitivity, compress, balance, info, evaluate, convert,
    explore, simulate, export, synth,
):  # fmt: skip
    app.command(module.__name__.rpartition(".")[2])(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        from pleach import __version__

        typer.echo(f"pleach {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Exit codes: 0 done, 1 it failed, 2 wrong use, 130 interrupted."""
    try:
        app()
    except SystemExit as end:  # typer makes one of an interrupt
        if end.code != INTERRUPTED:
            raise
        _fail("interrupted", INTERRUPTED)
    except ConfigError as error:
        _fail(error, 2)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except PleachError as error:
        _fail(error, 1)


def _fail(error: object, code: int) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False).print(f"[red]pleach:[/red] {error}", soft_wrap=True)
    sys.exit(code)
