"""`cloudfs login`: nothing is written, here or on the server, unless the login works."""

from __future__ import annotations

import getpass
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec
import trio

from cloudfs import config
from cloudfs.cli.addresses import name_of_host, require_text
from cloudfs.cli.browser import open_browser, show_address
from cloudfs.cli.common import connect as connect_to
from cloudfs.cli.common import holder_of
from cloudfs.cli.keeping import Choice, choose_store, forget, keep
from cloudfs.cli.output import harmless, print_json, waiting
from cloudfs.cli.patience import PATIENCE_S, in_time
from cloudfs.cli.refusals import explain
from cloudfs.cli.revoking import Former, former_login
from cloudfs.config import Account, Folders, SecretKind, Trust, account_names, check_account_name
from cloudfs.errors import (
    ExitCode,
    Forbidden,
    RemoteError,
    UserError,
)
from cloudfs.remote import connect, retries
from cloudfs.remote.address import parse_address
from cloudfs.remote.connect import Site
from cloudfs.remote.loginflow import Granted, LoginFlow
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import context_of
from cloudfs.secrets.memory import close_memory
from cloudfs.secrets.stores import store_of
from cloudfs.wiped import forget_wiped

__all__ = ["log_in"]


class LoggedIn(msgspec.Struct, frozen=True):
    """A login that works, as `--json` prints it."""

    account: str
    url: str
    user: str
    server: str
    password_kept: SecretKind


@dataclass(frozen=True)
class _Wanted:
    """What was asked for on the command line."""

    url: str
    user: str | None
    account: str | None
    trust: Trust
    tls: ssl.SSLContext
    store: Choice
    """Where the password is to be kept."""


@dataclass(frozen=True)
class _Kept:
    """A login that works and is kept."""

    name: str
    site: Site
    former: Former | None
    """The one that it replaces."""


def log_in(
    url: str,
    user: str | None,
    *,
    account: str | None,
    trust: Trust,
    password_stdin: bool,
    browser: bool,
    store: SecretKind | None,
    as_json: bool = False,
) -> None:
    """Find out what the server is, log in, and keep account and app password; `store`: None for the usual place.

    What was typed was checked (`addresses`). What `trust` leaves open is as in the account's file, where there is one.
    With `as_json` what is said on the way goes to standard error.
    """
    close_memory()  # a password will be in it, maybe one that opens everything
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        done = _log_in(
            url,
            user,
            account,
            trust,
            store,
            password_stdin=password_stdin,
            browser=browser,
        )
    if as_json:
        print_json(done)


def _log_in(
    url: str,
    user: str | None,
    account: str | None,
    trust: Trust,
    store: SecretKind | None,
    *,
    password_stdin: bool,
    browser: bool,
) -> LoggedIn:
    folders = Folders.from_environment()
    name = account or name_of_host(urlsplit(parse_address(url).url).hostname or "")
    known = config.load_account(folders, name) if name in account_names(folders) else None
    trust = _with_absolute_paths(trust, known)
    tls = context_of(trust)  # before anything is asked
    # Where the password will be kept is chosen while that costs nobody a login yet.
    wanted = _Wanted(url, user, account, trust, tls, choose_store(folders, name, known, store))
    kept = (
        _by_password(folders, wanted, from_stdin=password_stdin)
        if password_stdin or wanted.store.kind == "credential"
        else _by_browser(folders, wanted, browser=browser) or _by_password(folders, wanted, from_stdin=False)
    )
    name, site = kept.name, kept.site
    print(f"Logged in as {site.user} to {site.features.name} at {site.root_url}.")
    print(f"Its password is kept {store_of(folders, name, wanted.store.kind).place}{wanted.store.why}.")
    print(f"The account is named {name}. Mount it with `cloudfs mount {name} FOLDER`.")
    holder = holder_of(folders, name)
    if holder is not None:
        _hand_over(folders, name, holder.mount_point)
    if kept.former is not None:  # after the mount uses the new one
        kept.former.revoke()
    return LoggedIn(name, site.root_url, site.user, site.features.name, wanted.store.kind)


def _with_absolute_paths(given: Trust, known: Account | None) -> Trust:
    """Complete what was given by what is known, and make paths mean the same for the daemon, wherever that runs."""
    paths = {
        name: str(Path(path).absolute())
        for name in ("ca_file", "client_certificate", "client_key")
        if (path := getattr(given, name))
    }
    pins = {"pinned_keys": given.pinned_keys} if given.pinned_keys else {}
    return msgspec.structs.replace(known.trust if known else Trust(), **paths, **pins)


def _by_password(folders: Folders, wanted: _Wanted, *, from_stdin: bool) -> _Kept:
    """Log in with a password, exchanged at once where the server has app passwords."""
    if wanted.user is None:
        raise UserError(
            f"Logging in to {wanted.url} takes a user name and a password.",
            hint="Give the user name with --user NAME.",
            code=ExitCode.USAGE,
        )
    password = _read_password(wanted.user, from_stdin=from_stdin)
    require_text("password", password)
    site = _ask(wanted, wanted.user, password)
    name = _name_for(folders, wanted.account, site)
    secret = _app_password(wanted.url, site, password, wanted.tls)
    with _revoked_on_failure(site, None if secret == password else secret, wanted.tls):
        if wanted.store.kind == "credential" and secret != password:
            raise UserError(
                "This is the login password, and a systemd credential is not written by cloudfs.",
                hint="Make an app password in the settings of the server (Security), and have systemd hand it out.",
                code=ExitCode.USAGE,
            )
        return _keep(folders, name, site, wanted, secret, own=secret != password)


def _by_browser(folders: Folders, wanted: _Wanted, *, browser: bool) -> _Kept | None:
    """Have a person log in in a browser; None where the server offers no such thing."""
    base_url, granted = _consent(wanted, browser=browser)
    if base_url is None or granted is None:
        return None
    known = Site(base_url, granted.login_name, Features(name=""), base_url)
    with _revoked_on_failure(known, granted.app_password, wanted.tls):
        site = _ask(wanted, granted.login_name, granted.app_password, patient=True)
        _require_same_person(wanted, site)
        name = _name_for(folders, wanted.account, site)
        return _keep(folders, name, site, wanted, granted.app_password, own=True)


def _require_same_person(wanted: _Wanted, site: Site) -> None:
    if wanted.user is not None and wanted.user.casefold() not in {
        site.user.casefold(),
        (site.user_id or "").casefold(),
    }:
        raise UserError(
            f"The login in the browser was that of {site.user}, not of {wanted.user}.",
            hint="Log out there, or leave out --user.",
            code=ExitCode.WRONG_PASSWORD,
        )


@contextmanager
def _revoked_on_failure(site: Site, app_password: str | None, tls: ssl.SSLContext) -> Iterator[None]:
    """Take back a new app password if the block fails: one that nobody has only clutters the user's list."""
    try:
        yield
    except BaseException:
        if app_password is not None:
            trio.run(_revoke, site, app_password, tls)
        raise


def _consent(wanted: _Wanted, *, browser: bool) -> tuple[str | None, Granted | None]:
    """Return where the Nextcloud is and what a person granted there; nothing where it is none, or has no such flow."""

    async def ask() -> tuple[str | None, Granted | None]:
        with waiting(f"asking {wanted.url} …"):
            base_url = await in_time(connect.find_nextcloud(wanted.url, tls=wanted.tls))
            flow = await in_time(LoginFlow.begin(base_url, _device(), tls=wanted.tls)) if base_url else None
        if flow is None:
            return None, None
        async with flow:
            _show(flow.login_url, wanted.user, browser=browser)
            granted = await flow.granted()
        if granted is None:
            raise UserError(
                "Nobody has agreed to the login in time.",
                hint="Begin anew. If you did agree, remove what it made from the devices in the server's settings.",
                code=ExitCode.NOT_DONE,
            )
        return base_url, granted

    try:
        return trio.run(ask)
    except RemoteError as error:
        raise explain(error, wanted.url) from error


def _show(login_url: str, user: str | None, *, browser: bool) -> None:
    url = login_url if user is None or "?" in login_url else f"{login_url}?user={quote(user, safe='')}"
    show_address(url)
    opened = browser and open_browser(url)
    where = "It was opened in your browser. " if opened else ""
    print(f"{where}Waiting until you have agreed there; Ctrl-C gives up.", flush=True)


def _device() -> str:
    """Name what we run on, for the user's list of devices."""
    return f"cloudfs on {socket.gethostname()}"


def _hand_over(folders: Folders, name: str, mount_point: str) -> None:
    """Have the running daemon read the new secret; it goes on at once."""
    try:
        with connect_to(folders, name) as client:
            answer = harmless(client.log_in())
    except UserError as error:
        sys.stderr.write(
            f"{harmless(error.message, sys.stderr)}\nUnmount {mount_point} and mount it again to use the new login.\n"
        )
        return
    if answer.state == "online":
        print(f"The mount at {mount_point} goes on with the new login.")
    else:
        print(f"The mount at {mount_point} has the new login; it is {answer.state} ({answer.reason}).")


def _read_password(user: str, *, from_stdin: bool) -> str:
    if from_stdin and not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {user}: ")
    else:
        raise UserError(
            "There is no terminal to ask for the password.",
            hint="Pass it on standard input with --password-stdin.",
            code=ExitCode.USAGE,
        )
    if not password:
        raise UserError("The password is empty.", hint="Nothing came on standard input.", code=ExitCode.USAGE)
    return password


def _ask(wanted: _Wanted, user: str, password: str, *, patient: bool = False) -> Site:
    """Ask what is there; `patient`: more than once, where failing would cost a person another login."""

    async def discover() -> Site:
        if patient:
            return await retries.read(ask, wanted.url, PATIENCE_S)
        return await in_time(ask())

    async def ask() -> Site:
        return await connect.discover(wanted.url, user, password, tls=wanted.tls)

    try:
        with waiting(f"asking {wanted.url} …"):
            return trio.run(discover)
    except RemoteError as error:
        raise explain(error, wanted.url) from error


def _app_password(url: str, site: Site, password: str, tls: ssl.SSLContext) -> str:
    async def exchange() -> str:
        return await in_time(connect.exchange_password(site, password, _device(), tls=tls))

    try:
        return trio.run(exchange)
    except Forbidden as error:
        raise UserError(
            f"{url} makes no app password for this one, and a login password is not kept: {error.message}.",
            hint=f"Log in in a browser: `cloudfs login {url}`; or make an app password in the settings of the"
            " server (Security), and use that.",
            code=ExitCode.NOT_DONE,
        ) from error
    except RemoteError as error:
        raise explain(error, url) from error


async def _revoke(site: Site, secret: str, tls: ssl.SSLContext) -> None:
    """Best effort: an app password that nobody has is of no use and shows up in the user's list."""
    try:
        await in_time(connect.revoke(site, secret, tls=tls))
    except RemoteError as error:
        sys.stderr.write(f"The app password made for this login could not be revoked: {error}\n")


def _name_for(folders: Folders, wanted: str | None, site: Site) -> str:
    """Return the account's name: as wanted, else the host's. One name never changes to another user's files."""
    name = wanted or check_account_name(name_of_host(urlsplit(site.root_url).hostname or ""))
    if name in account_names(folders):
        known = config.load_account(folders, name)
        if (known.url, known.user) != (site.root_url, site.user):
            raise UserError(
                f"The account {name} already is {known.user} at {known.url}.",
                hint="Choose another name with --account NAME.",
                code=ExitCode.USAGE,
            )
    return name


def _keep(folders: Folders, name: str, site: Site, wanted: _Wanted, secret: str, *, own: bool) -> _Kept:
    """Write the account and its password; `own`: one that was made for it just now."""
    folders.create()
    known = config.load_account(folders, name) if name in account_names(folders) else None
    former = former_login(folders, name, known) if known else None
    if former is not None and former.secret == secret:
        former, own = None, True  # one of ours, brought again
    account = Account(
        url=site.root_url,
        user=site.user,
        user_id=site.user_id or "",
        base_url=site.base_url or "",
        **msgspec.structs.asdict(wanted.trust),
        own_password=own,
        secret_store=wanted.store.kind,
        features=msgspec.to_builtins(site.features),
        settings=known.settings if known else _first_settings(wanted.store.kind),
    )
    # The secret first: an account that is listed can be mounted.
    keep(folders, name, wanted.store.kind, secret)
    config.save_account(folders, name, account)
    forget_wiped(folders, name)
    if known is not None and known.secret_store != wanted.store.kind:
        _leave(folders, name, known.secret_store)
    return _Kept(name, site, former)


def _first_settings(kind: SecretKind) -> config.Settings:
    """Whoever has a keyring for the password has one for the key of what is kept here."""
    return config.Settings(cache_encrypt=True if kind == "keyring" else None)


def _leave(folders: Folders, name: str, former: SecretKind) -> None:
    """Take the former password away from where passwords of this account are kept no longer."""
    try:
        forget(folders, name, former)
    except (UserError, OSError) as error:
        place = store_of(folders, name, former).place
        sys.stderr.write(f"The former password is still kept {place}: {error}\n")
