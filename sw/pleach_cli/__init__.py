"""The command line: one file a command, each a view of the library."""

import sys

from pleach.errors import NotInstalledError
from pleach.extras import need


def main() -> None:
    """Run the command of `sys.argv`; docs of exit codes: `pleach_cli.app.run`."""
    try:
        need("typer", "rich")
    except NotInstalledError as error:
        sys.exit(f"pleach: {error}")
    from pleach_cli.app import run

    run()
