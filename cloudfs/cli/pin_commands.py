"""The words of `cloudfs pin`, `unpin` and `free`; what they do is in `pin`, which is imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from cloudfs.cli.options import seconds
from cloudfs.errors import ExitCode, UserError

__all__ = ["add_to"]

JsonOption = Annotated[
    bool, typer.Option("--json", help="For programs: a JSON list, one object for each PATH.")
]
PathsArgument = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders in a mount.")]


def add_to(app: typer.Typer) -> None:
    """Have the commands among those of `cloudfs`."""
    app.command("pin")(pin)
    app.command("unpin")(unpin)
    app.command("free")(free)


def pin(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH...]", help="Files and folders in a mount; none: show what is pinned."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Return when all of it is here. Ctrl-C only ends the waiting."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            callback=seconds,
            help="With --wait: give up after so long (exit code 3).",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Without PATH: whose pins to show.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Always keep files here, whole folders with all that will ever be in them, and readable without a network.

    They are brought in the background and kept up to date.
    """
    if timeout is not None and not wait:
        raise UserError(
            "--timeout limits how long --wait waits.",
            hint="Without --wait, files come in the background.",
            code=ExitCode.USAGE,
        )
    from cloudfs.cli.pin import pin_paths, show_pins

    if paths:
        pin_paths(paths, as_json=as_json, wait=wait, timeout_s=timeout)
    else:
        show_pins(account, as_json=as_json)


def unpin(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """Keep files here no longer than they are needed. What is here already stays until its room is wanted."""
    from cloudfs.cli.pin import unpin_paths

    unpin_paths(paths, as_json=as_json)


def free(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """Give back the disk space that files take, and keep them on the server only, until a program reads them.

    What is not on the server yet always stays. In a pinned folder this makes an exception.
    """
    from cloudfs.cli.pin import free_paths

    free_paths(paths, as_json=as_json)
