"""The commands in one application, and how they end. Heavy modules are imported inside them."""

import inspect
import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from pleach.errors import ConfigError, PleachError
from pleach_cli import (
    balance,
    build,
    check,
    compress,
    convert,
    demo,
    diff,
    evaluate,
    explore,
    export,
    info,
    methods,
    plan,
    ports,
    program,
    report,
    search,
    sensitivity,
    simulate,
    synth,
    trace,
    train,
    vectors,
)
from pleach_cli import run as run_command
from pleach_cli.common import careful
from pleach_cli.output import say

#: signals that end a command as an interrupt does, so that its tools end with it
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
ENDED = {128 + signal.SIGINT: "interrupted"} | {128 + s: f"ended by {s.name}" for s in SIGNALS}

app = typer.Typer(
    name="pleach",
    help="Compress a PyTorch network into one bitstream and run that bitstream on an FPGA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo, train, check, methods, sensitivity, compress, search, balance, info, evaluate, report,
    diff, convert, plan, explore, simulate, trace, vectors, export, synth, build, program,
    run_command, ports,
):  # fmt: skip
    # A terminal breaks the lines of a paragraph where it wants.
    paragraphs = (inspect.getdoc(module.command) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(module.__name__.rpartition(".")[2], help=text)(careful(module.command))


def _version(wanted: bool) -> None:
    if wanted:
        from pleach import __version__

        typer.echo(f"pleach {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def run() -> None:
    """Exit codes: 0 done, 1 it failed, 2 wrong use, 130 interrupted, 143 or 129 ended by SIGTERM or
    SIGHUP."""
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is escaped
        if isinstance(stream, io.TextIOWrapper):  # None: closed by who called us
            stream.reconfigure(errors="backslashreplace")
    try:
        with _unwound_by_signals():
            app()
    except SystemExit as end:  # typer makes one of an interrupt
        if not isinstance(end.code, int) or end.code not in ENDED:
            raise
        _fail(ENDED[end.code], end.code)
    except ConfigError as error:
        _fail(error, 2)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except PleachError as error:
        _fail(error, 1)
    except MemoryError:
        _fail("not enough memory", 1)


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Let `SIGNALS` raise: whoever has started a process or made a folder clears up."""

    def end(number: int, _frame) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: from here on it is cleared up
        raise SystemExit(128 + number)

    # One that is ignored, as by nohup, stays ignored.
    found = {s: signal.getsignal(s) for s in SIGNALS if signal.getsignal(s) == signal.SIG_DFL}
    for number in found:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, before in found.items():
            signal.signal(number, before)


def _fail(error: object, code: int) -> None:
    first, *more = str(error).split("\n")
    with suppress(OSError):  # the terminal may be gone
        say(("pleach:", "red"), f" {first}", stderr=True)
        for line in more:
            say(line, stderr=True)
    sys.exit(code)
