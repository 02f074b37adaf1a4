"""The commands that look after an account's things: their words and options. See `looking`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = ["add_to"]

JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]
WhereArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ACCOUNT|PATH]",
        help="An account, or a path in its mount; needed only where there are several.",
    ),
]
AccountArgument = Annotated[
    str | None, typer.Argument(metavar="[ACCOUNT]", help="Which; may be left out if there is only one.")
]
_HELP = {"help_option_names": ["-h", "--help"]}


def add_to(app: typer.Typer) -> None:
    """Have the command line know them."""
    cache = typer.Typer(
        help="Look after the contents that are kept on this machine.",
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings=_HELP,
    )
    cache.command("info")(cache_info)
    cache.command("clear")(cache_clear)
    cache.command("verify")(cache_verify)
    for name, command in (
        ("encrypt", cache_encrypt),
        ("decrypt", cache_decrypt),
        ("rekey", cache_rekey),
        ("lock", cache_lock),
        ("recovered", cache_recovered),
    ):
        cache.command(name)(command)
    app.add_typer(cache, name="cache")
    app.command()(doctor)
    app.command()(completion)
    service = typer.Typer(
        help="Have systemd mount an account whenever you are logged in.",
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings=_HELP,
    )
    service.command("install")(service_install)
    service.command("enable")(service_enable)
    service.command("start")(service_start)
    service.command("stop")(service_stop)
    service.command("status")(service_status)
    service.command("logs")(service_logs)
    service.command("uninstall")(service_uninstall)
    app.add_typer(service, name="service")


def cache_info(what: WhereArgument = None, as_json: JsonOption = False) -> None:
    """Tell how much is kept, and how much may be."""
    from cloudfs.cli.cache import show

    show(what, as_json=as_json)


def cache_clear(
    what: WhereArgument = None,
    force: Annotated[bool, typer.Option("--force", help="Also while the server is away.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Drop all contents that the server has, too. What is not on the server yet is never dropped."""
    from cloudfs.cli.cache import clear

    clear(what, force=force, as_json=as_json)


def cache_verify(what: WhereArgument = None, as_json: JsonOption = False) -> None:
    """Read all that is kept, compare whole files with the server's checksums, and drop what is wrong."""
    from cloudfs.cli.cache import verify

    verify(what, as_json=as_json)


KeyOption = Annotated[
    Literal["keyring", "file", "credential"] | None,
    typer.Option("--key", help="Where the key is to be kept; in the keyring, if left out."),
]


def cache_encrypt(what: AccountArgument = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Encrypt all that is kept of an account on this machine; unmount it first. Changes are taken along."""
    from cloudfs.cli.sealing import encrypt

    encrypt(what, key=key, as_json=as_json)


def cache_decrypt(what: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Have it plain again; unmount it first. Changes are taken along."""
    from cloudfs.cli.sealing import decrypt

    decrypt(what, as_json=as_json)


def cache_rekey(what: AccountArgument = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Encrypt it anew with another key; unmount it first. Changes are taken along."""
    from cloudfs.cli.sealing import rekey

    rekey(what, key=key, as_json=as_json)


def cache_lock(
    what: AccountArgument = None,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Even while programs use it: they lose their open files.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Unmount an encrypted account, so that no process has its key in memory."""
    from cloudfs.cli.sealing import lock

    lock(what, lazy=lazy, as_json=as_json)


def cache_recovered(
    what: AccountArgument = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="FOLDER", help="Where the copies are to be.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy what was rescued after damage out of an encrypted account, readable."""
    from cloudfs.cli.sealing import recovered

    recovered(what, to=to, as_json=as_json)


def doctor(
    account: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT]", help="Only this account; all if left out.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the servers.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for what is wrong: machine, settings, disk, cache, server. Exit code 7 if a problem was found."""
    from cloudfs.cli.output import waiting

    with waiting("looking …"):
        from cloudfs.cli.doctor import examine

    examine(account, fix=fix, offline=offline, as_json=as_json)


def service_install(
    account: AccountArgument = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="FOLDER", help="Mount there instead of ~/Cloud/ACCOUNT.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the unit to ~/.config/systemd/user."""
    from cloudfs.cli.service import install

    install(account, at, as_json=as_json)


def service_enable(account: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Mount it at every login from now on, and now."""
    from cloudfs.cli.service import enable

    enable(account, as_json=as_json)


def service_start(account: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Mount it now; returns when the folder answers."""
    from cloudfs.cli.service import start

    start(account, as_json=as_json)


def service_stop(account: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Unmount it; what is not on the server yet goes up after the next start."""
    from cloudfs.cli.service import stop

    stop(account, as_json=as_json)


def service_status(account: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Tell how the unit is; exit code 4 if it does not run."""
    from cloudfs.cli.service import show

    show(account, as_json=as_json)


def service_logs(
    account: AccountArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="NUMBER", min=0, help="So many of the last lines.")
    ] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: a JSON object in each line.")
    ] = False,
) -> None:
    """Show what it has written to the journal."""
    from cloudfs.cli.service import logs

    logs(account, lines=lines, follow=follow, as_json=as_json)


def service_uninstall(account: AccountArgument = None, as_json: JsonOption = False) -> None:
    """Stop it and remove the unit; the account stays."""
    from cloudfs.cli.service import uninstall

    uninstall(account, as_json=as_json)


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
    ],
) -> None:
    """Print what makes a shell complete commands, options, accounts and paths."""
    from cloudfs.cli.completion import show

    show(shell)
