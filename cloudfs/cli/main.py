"""`cloudfs`: the commands, and the one place where an error becomes a sentence and an exit code.

What a command needs beyond this is imported when it runs: the first output comes within 0.3 s.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cloudfs.cli import caring, deciding, examples, looking, pin_commands
from cloudfs.cli.options import seconds
from cloudfs.errors import INTERRUPTED, CloudfsError, ExitCode, UserError, is_interrupt

__all__ = ["app", "main"]

app = typer.Typer(
    name="cloudfs",
    help="A Nextcloud account, or any WebDAV server, as an ordinary folder.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AccountArgument = Annotated[
    str | None,
    typer.Argument(metavar="[ACCOUNT]", help="Name of the account; may be left out if there is only one."),
]
MountArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ACCOUNT|PATH]",
        help="An account, or a path in its mount; may be left out if there is only one.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]
AccountOption = Annotated[str | None, typer.Option("--account", metavar="NAME", help="Name of the account.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0, callback=seconds, help="Give up after so long (exit code 3)."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from cloudfs.cli.common import version

        typer.echo(f"cloudfs {version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A Nextcloud account, or any WebDAV server, as an ordinary folder."""


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@app.command()
def login(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help="Address of the server, or of the WebDAV folder to mount; none: log in again to the account there is.",
        ),
    ] = None,
    *,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Login name; not needed for logging in in a browser."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, if there is one.")
    ] = True,
    account: AccountOption = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", help="Trust this certificate authority (PEM), too."),
    ] = None,
    client_certificate: Annotated[
        Path | None,
        typer.Option(
            "--client-certificate", metavar="FILE", help="Show this certificate (PEM) to the server."
        ),
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option("--client-key", metavar="FILE", help="Its key, where that is not in the same file."),
    ] = None,
    pinned_key: Annotated[
        list[str] | None,
        typer.Option(
            "--pinned-key", metavar="PIN", help="Take no other key of the server: sha256//…, as curl does."
        ),
    ] = None,
    allow_http: Annotated[
        bool,
        typer.Option("--allow-http", help="Send the password without encryption if the address says so."),
    ] = False,
    secret_store: Annotated[
        Literal["keyring", "file", "credential"] | None,
        typer.Option(
            "--secret-store",
            help="Where the password is kept: the desktop's keyring, a private file, or a systemd credential of yours.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Log in to a server and remember it as an account.

    On Nextcloud you log in in a browser, here or on another device. Other servers, and --password-stdin, take a
    password; Nextcloud's is exchanged for an app password at once and not kept.

    The app password is kept in the keyring. Where there is none you are asked whether a file (0600) will do; a script
    says so by --secret-store file, or by CLOUDFS_HOME.
    """
    from cloudfs.cli.addresses import check, known
    from cloudfs.cli.output import waiting
    from cloudfs.config import Trust

    if url is None:
        url, user, account = known(account, user)
    check(url, user, account, allow_http=allow_http)
    with waiting(f"asking {url} …"):  # HTTP takes half a second to load
        from cloudfs.cli.login import log_in

    log_in(
        url,
        user,
        account=account,
        trust=Trust(
            ca_file=_text(ca_file),
            client_certificate=_text(client_certificate),
            client_key=_text(client_key),
            pinned_keys=pinned_key or [],
        ),
        password_stdin=password_stdin,
        browser=browser,
        store=secret_store,
        as_json=as_json,
    )


@app.command()
def logout(
    account: AccountArgument = None,
    discard_changes: Annotated[
        bool,
        typer.Option("--discard-changes", help="Throw away what is not on the server yet."),
    ] = False,
    revoke: Annotated[
        bool | None,
        typer.Option(
            "--revoke/--keep-remote",
            help="Revoke also an app password that you brought along; or do not ask the server: it stays valid.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Forget an account: revoke its app password on the server, and remove everything of it from this machine.

    An app password that you brought along stays valid, as other programs may use it. The files on the server stay as
    they are.
    """
    from cloudfs.cli.common import pick
    from cloudfs.cli.output import waiting
    from cloudfs.config import Folders

    account = pick(Folders.from_environment(), account)
    with waiting(f"looking what is here of {account} …"):  # HTTP takes half a second to load
        from cloudfs.cli.logout import log_out

    log_out(account, discard_changes=discard_changes, revoking=revoke, as_json=as_json)


@app.command()
def mount(
    places: Annotated[
        list[str], typer.Argument(metavar="[ACCOUNT] MOUNTPOINT", help="An empty folder to mount on.")
    ],
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C unmounts.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log every step.")] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="FILE|PORT",
            help="Figures for Prometheus: in a file for node_exporter, or on a port of this machine.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Mount an account; returns when the folder answers."""
    from cloudfs.cli.mount import mount_account

    account, mount_point = _account_and(places)
    mount_account(account, mount_point, foreground=foreground, debug=debug, metrics=metrics, as_json=as_json)


@app.command()
def unmount(
    what: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT|MOUNTPOINT]", help="What to unmount.")
    ] = None,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Even while programs use it: they lose their open files.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="First wait until everything is on the server; Ctrl-C stays mounted."),
    ] = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Unmount; changes that are not on the server yet stay safe here and go up after the next mount."""
    from cloudfs.cli.unmount import unmount_account

    if timeout is not None and not wait:
        raise UserError(
            "--timeout limits how long --wait waits.",
            hint="Without --wait, unmounting never waits for the server.",
            code=ExitCode.USAGE,
        )
    unmount_account(what, lazy=lazy, wait=wait, timeout_s=timeout, as_json=as_json)


@app.command()
def sync(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="File or folder in a mount; all of it if left out.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when everything below PATH is on the server.")
    ] = False,
    timeout: TimeoutOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send everything below PATH to the server now."""
    from cloudfs.cli.sync import sync_path

    if not wait:
        raise UserError(
            "cloudfs sends changes by itself; there is nothing to start.",
            hint="Use `cloudfs sync --wait` to wait until everything is on the server.",
            code=ExitCode.USAGE,
        )
    sync_path(path, account=account, timeout_s=timeout, as_json=as_json)


@app.command()
def status(
    account: AccountArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again whenever it changes; Ctrl-C ends it.")
    ] = False,
) -> None:
    """Show how a mount is doing."""
    from cloudfs.cli.status import show_status, watch_status

    (watch_status if watch else show_status)(account, as_json=as_json)


@app.command()
def pause(what: MountArgument = None, as_json: JsonOption = False) -> None:
    """Send nothing, and fetch nothing ahead, until `cloudfs resume`; also after the next mount.

    Programs go on reading and writing; what they change is kept here.
    """
    from cloudfs.cli.pause import pause as pause_account

    pause_account(what, as_json=as_json)


@app.command()
def resume(what: MountArgument = None, as_json: JsonOption = False) -> None:
    """Go on after `cloudfs pause`."""
    from cloudfs.cli.pause import resume as resume_account

    resume_account(what, as_json=as_json)


deciding.add_to(app)
looking.add_to(app)
pin_commands.add_to(app)
caring.add_to(app)
examples.show_in_help(app)


def _account_and(places: list[str]) -> tuple[str | None, str]:
    if len(places) > 2:
        raise UserError(
            f"cloudfs mount takes an account and a folder, and got {len(places)} words.",
            hint="Put names with blanks in quotes.",
            code=ExitCode.USAGE,
        )
    return (places[0] if len(places) == 2 else None), places[-1]


def main() -> None:
    """Run the command line and exit; typer itself ends with a code for wrong usage and for Ctrl-C (130)."""
    _have_streams()
    try:
        app()
    except UserError as error:
        sys.exit(_complain(error))
    except CloudfsError as error:
        sys.exit(_complain(UserError(f"{error}.")))
    except (Exception, BaseExceptionGroup) as error:
        if is_interrupt(error):
            sys.exit(INTERRUPTED)
        if isinstance(error, OSError) and (told := _of_the_system(error)):
            sys.exit(_complain(told))
        # A bug of ours; for people a sentence, and the way to the rest.
        if os.environ.get("CLOUDFS_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
        hint = "Please report it, with what the same command says with CLOUDFS_DEBUG=1 set."
        sys.exit(_complain(UserError(f"cloudfs failed in an unexpected way ({what}).", hint=hint)))


def _have_streams() -> None:
    """Have the three standard streams: in place of one that is closed would be what is opened next."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # it gets this number
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _of_the_system(error: OSError) -> UserError | None:
    """Return the sentence for what the machine refuses, and no bug of ours is; None for all else."""
    if error.filename is not None and not isinstance(error, FileNotFoundError):
        return UserError(
            f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}.",
            hint="Look whose it is, and at the disk that it is on.",
            code=ExitCode.NOT_DONE,
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}:
        return UserError(f"The output cannot be written: {error.strerror}.")
    return None


def _complain(error: UserError) -> int:
    from cloudfs.cli.output import harmless

    for line in "\n".join(filter(None, (error.message, error.hint))).split("\n"):
        sys.stderr.write(f"{harmless(line, sys.stderr)}\n")
    return int(error.code)


if __name__ == "__main__":
    main()
