"""`pleach methods`: every method of compression, what it is from and what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from pleach_cli.common import Json
from pleach_cli.output import print_json, print_table, say


def command(
    name: Annotated[
        str | None,
        typer.Argument(help="A kind (criterion, quantiser, …) or a name; all without one."),
    ] = None,
    page: Annotated[bool, typer.Option(help="Print docs/methods.md.")] = False,
    json: Json = False,
) -> None:
    """List the methods: criteria, granularities, schedules, quantisers, regularisers, factorisers,
    teachers, networks.

    Example: [bold]pleach methods criterion[/bold]
    """
    from pleach.compression import methods
    from pleach.errors import ConfigError
    from pleach.settings import nearest

    if page:
        typer.echo(methods.page(), nl=False)
        return
    found = methods.methods()
    if name is not None:
        known = {method.kind for method in found} | {method.name for method in found}
        found = [method for method in found if name in (method.kind, method.name)]
        if not found:
            raise ConfigError(f"no kind or method is called {name!r}: {nearest(name, known)}")
    if json:
        print_json({"methods": [method.as_json() for method in found]})
        return
    for kind in dict.fromkeys(method.kind for method in found):
        own = [method for method in found if method.kind == kind]
        print_table(
            f"{kind}, {methods.SETTINGS.get(kind, '')}",
            ("name", "source", "needs"),
            [(method.name, method.source, ", ".join(method.needs)) for method in own],
        )
    if name is not None:
        for method in found if name in {m.name for m in found} else ():
            say(f"\n{method.name}: {method.title}\n{method.text}\n{method.use}")
