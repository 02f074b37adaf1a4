"""The words of `cloudfs conflicts` and `cloudfs deletions`: what only a person can decide. See `looking`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
import typer.core

__all__ = ["add_to"]

_HELP = {"help_option_names": ["-h", "--help"]}
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]
PathsArgument = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Either of the two files of a conflict.")
]
WhereArgument = Annotated[str | None, typer.Argument(metavar="[ACCOUNT|MOUNTPOINT]", help="Where they wait.")]
SideOption = Annotated[
    Literal["here", "server"] | None,
    typer.Option("--side", help="Where they would be deleted; needed only if both wait."),
]


class _ListByDefault(typer.core.TyperGroup):
    """Commands of which `list` may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # typer's own click, or click's
        words = [word for word in args if not word.startswith("-")]
        if not {"-h", "--help"} & set(args) and (not words or words[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Have the command line know them."""
    conflicts = typer.Typer(
        cls=_ListByDefault,
        help="List the files of which two versions lie side by side, or decide which one stays.",
        rich_markup_mode=None,
        context_settings=_HELP,
    )
    for name, command in (
        ("list", conflicts_list),
        ("keep-mine", conflicts_keep_mine),
        ("keep-theirs", conflicts_keep_theirs),
        ("keep-both", conflicts_keep_both),
    ):
        conflicts.command(name)(command)
    app.add_typer(conflicts, name="conflicts")
    deletions = typer.Typer(
        help="Answer when cloudfs asks whether the deletion of much at once is meant.",
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings=_HELP,
    )
    deletions.command("accept")(deletions_accept)
    deletions.command("restore")(deletions_restore)
    app.add_typer(deletions, name="deletions")


def conflicts_list(
    what: Annotated[str | None, typer.Argument(metavar="[ACCOUNT|MOUNTPOINT]", help="Where to look.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON list.")] = False,
) -> None:
    """List them: the server's version under its name, yours as a conflicted copy beside it."""
    from cloudfs.cli.conflicts import list_conflicts

    list_conflicts(what, as_json=as_json)


def conflicts_keep_mine(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """Your version becomes the file's content, on the server too; the copy goes.

    What the file held is kept among its versions on servers that have such a thing.
    """
    from cloudfs.cli.conflicts import decide

    decide("keep-mine", paths, as_json=as_json)


def conflicts_keep_theirs(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """The server's version stays; your copy is removed."""
    from cloudfs.cli.conflicts import decide

    decide("keep-theirs", paths, as_json=as_json)


def conflicts_keep_both(paths: PathsArgument, as_json: JsonOption = False) -> None:
    """Both stay, as two ordinary files."""
    from cloudfs.cli.conflicts import decide

    decide("keep-both", paths, as_json=as_json)


def deletions_accept(
    what: WhereArgument = None, side: SideOption = None, as_json: JsonOption = False
) -> None:
    """They are meant: delete on the other side, too. What was changed here stays."""
    from cloudfs.cli.deletions import answer

    answer("accept", what, side, as_json=as_json)


def deletions_restore(
    what: WhereArgument = None, side: SideOption = None, as_json: JsonOption = False
) -> None:
    """They are not meant: bring it back where it was deleted."""
    from cloudfs.cli.deletions import answer

    answer("restore", what, side, as_json=as_json)
