"""The commands that only look: their words and options. What they do is imported when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add_to"]

JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]


def add_to(app: typer.Typer) -> None:
    """Have the command line know them."""
    app.command()(accounts)


def accounts(as_json: JsonOption = False) -> None:
    """List the accounts there are, where each is mounted and how it is doing."""
    from cloudfs.cli.accounts import list_accounts

    list_accounts(as_json=as_json)
