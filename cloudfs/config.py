"""Folders, account files and secrets on this machine. Everything is private: folders 0700, files 0600.

Layout, with the XDG names in front (CLOUDFS_HOME=/x puts config, state, cache and run under /x):

    config/cloudfs/accounts/NAME.toml   one account: address, user, settings; no secret; people may edit it
    state/cloudfs/NAME/secret           the app password, where the account's file says secret_store = "file"
    state/cloudfs/NAME/                 database, staged bytes, lock, daemon.log
    cache/cloudfs/NAME/                 clean blocks: may be deleted at any time
    runtime/cloudfs/NAME.sock           the daemon's control socket
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from platformdirs import PlatformDirs

from cloudfs import bandwidth
from cloudfs.errors import ExitCode, UserError
from cloudfs.paths import mount_path

__all__ = [
    "Account",
    "Bandwidth",
    "Folders",
    "SecretKind",
    "Settings",
    "account_names",
    "check_account_name",
    "load_account",
    "pick_account",
    "private_folder",
    "published_at",
    "read_secret",
    "read_secret_file",
    "remove_account",
    "save_account",
    "write_private",
    "write_secret",
]

SECRET_MAX_BYTES = 4096

SecretKind = Literal["keyring", "credential", "file"]
"""Where an app password is kept; see `cloudfs.secrets`."""

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 86400)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a person may tune, in [settings] of the account's file. Sizes in bytes, times in seconds."""

    cache_size_bytes: Annotated[int, msgspec.Meta(ge=16 * 2**20, le=2**60)] | None = None
    """Most that cached blocks may take; None: 10 % of the disk, at most 20 GB."""
    cache_keep_free_bytes: Bytes | None = None
    """Free disk space that the cache leaves alone; None: 5 % of the disk, at least 1 GB."""
    cache_encrypt: bool | None = None
    """Seal all that is kept here of the account; None: as it is."""
    cache_key: SecretKind | None = None
    """Where the key for that is kept; None: in the keyring."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=8 * 2**20, le=2**40)] = 40 * 2**20
    """Ceiling for contents held in memory, whatever is open."""
    quiet_s: Seconds = 2.0
    """A closed file goes up after it was left alone for so long."""
    listing_ttl_s: Seconds = 5.0
    """A used folder is listed again after so long, where changes of others are not found out otherwise."""
    poll_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    """The whole account is asked as often as this for changes of others; 0: only folders in use, one by one."""
    delete_guard: Annotated[int, msgspec.Meta(ge=0)] = 100
    """More files and folders than this, and more than half of all, vanishing on the server at once: ask; 0: never."""
    delete_guard_server: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """More deletions than this, or of more than half of all, wait to be confirmed before they go up; 0: never."""
    keep: list[str] = []
    """Folders and files, by their paths in the mount, that are always kept here where nobody said anything else."""
    keep_max_bytes: Bytes | None = None
    """Of what is in them, no file that is larger; None: all."""
    xattrs: bool = False
    """Files have extended attributes (user.cloudfs.pin and more), for which small writes are slower."""
    metrics: int | str | None = None
    """Figures for Prometheus: a port of this machine, or a file (*.prom) for node_exporter; None: none."""
    request_deadline_s: Annotated[float, msgspec.Meta(ge=1, le=19)] = 15.0
    """Every request of a program is answered within it; suspend fails after 20 s."""


class Bandwidth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How quick an account may be, in [bandwidth] of its file; `cloudfs.bandwidth` says what is written there."""

    up: str = "off"
    """A speed, or a time table of speeds, for what is sent."""
    down: str = "off"
    """The same for what is fetched."""
    metered: str = "pause"
    """On a metered connection, for what is fetched that no program reads: pause, ignore, or limit SPEED."""
    metered_up: str = "ignore"
    """The same for what is sent."""

    def rules(self) -> bandwidth.Rules:
        """Return what they mean; ValueError, which `load_account` has made impossible."""
        return bandwidth.Rules(
            up=bandwidth.parse_timetable(self.up),
            down=bandwidth.parse_timetable(self.down),
            metered=bandwidth.parse_metered(self.metered),
            metered_up=bandwidth.parse_metered(self.metered_up),
        )


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Whom an account trusts, and how it shows who it is, beside the password."""

    ca_file: str | None = None
    """PEM file with a certificate authority to trust beside the system's."""
    client_certificate: str | None = None
    """PEM file with the certificate that is shown to a server that asks for one."""
    client_key: str | None = None
    """PEM file with its key; None: it is in the same file."""
    pinned_keys: list[str] = []
    """The server's certificate has to have one of these keys, as "sha256//BASE64"; none: any that is trusted."""

    @property
    def trust(self) -> Trust:
        """These settings alone."""
        return Trust(**{name: getattr(self, name) for name in Trust.__struct_fields__})


class Account(Trust, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One account, as in its file."""

    url: str
    """The WebDAV folder that is the root of the mount."""
    user: str
    """Login name, exactly as the app password was made for (case counts)."""
    user_id: str = ""
    """Nextcloud's own name of the user, a part of its addresses; "" on plain servers."""
    base_url: str = ""
    """Where Nextcloud's other services are; "" on plain servers."""
    own_password: bool = False
    """The app password was made for this account by its login, not brought along: the next login revokes it."""
    secret_store: SecretKind = "file"  # noqa: S105  # where, not what
    """Where the app password is; accounts from before there was a choice have it in a file."""
    features: dict[str, object] = {}
    """What the server was found to do, for starting without a network; written and read by `remote`."""
    settings: Settings = Settings()
    bandwidth: Bandwidth = Bandwidth()


class Folders(msgspec.Struct, frozen=True):
    """Where everything lives. Nothing is created before `create`."""

    config: Path
    state: Path
    cache: Path
    runtime: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Folders:
        """Follow CLOUDFS_HOME, else the XDG variables, else their defaults below the home folder."""
        environ = os.environ if environ is None else environ
        home = environ.get("CLOUDFS_HOME")
        if home:
            base = Path(home).expanduser()
            if not base.is_absolute():
                raise _bad(
                    f"CLOUDFS_HOME is not an absolute path: {home}", "Set it to a path that begins with /."
                )
            return cls(base / "config", base / "state", base / "cache", base / "run")
        dirs = PlatformDirs("cloudfs")
        state = dirs.user_state_path
        return cls(dirs.user_config_path, state, dirs.user_cache_path, _runtime(environ, state))

    def create(self) -> None:
        """Create what is missing and verify what is there; raises UserError BAD_CONFIG."""
        for folder in (self.config, self.accounts, self.state, self.cache, self.runtime):
            private_folder(folder)

    @property
    def accounts(self) -> Path:
        """Folder of the account files."""
        return self.config / "accounts"

    def account_file(self, name: str) -> Path:
        """Return the account's file."""
        return self.accounts / f"{check_account_name(name)}.toml"

    def account_state(self, name: str) -> Path:
        """Return the account's state folder, created and verified."""
        return private_folder(self.state / check_account_name(name))

    def account_cache(self, name: str) -> Path:
        """Return the account's cache folder, created and verified."""
        return private_folder(self.cache / check_account_name(name))

    def secret_file(self, name: str) -> Path:
        """Return the file of the account's app password."""
        return self.state / check_account_name(name) / "secret"

    def socket_name(self, name: str) -> str:
        """Return the control socket's name inside `runtime`."""
        return f"{check_account_name(name)}.sock"


def _runtime(environ: Mapping[str, str], state: Path) -> Path:
    """XDG_RUNTIME_DIR; where cron or ssh forgot to set it, systemd's folder; else a part of the state."""
    for candidate in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        with suppress(OSError):
            if candidate.startswith("/") and Path(candidate).stat().st_uid == os.geteuid():
                return Path(candidate) / "cloudfs"
    return state / _SOCKETS


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700 and return it.

    An existing one must be a real folder of ours and is tightened to 0700. Raises UserError BAD_CONFIG.
    """
    try:
        for missing in reversed([folder for folder in path.parents if not folder.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise _bad(
                f"{path} is a symbolic link.", "Remove it, or set CLOUDFS_HOME to the real place."
            ) from error
        raise _bad(
            f"The folder {path} cannot be used: {error.strerror}.", "Make it a folder of yours."
        ) from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise _bad(f"The folder {path} belongs to another user.", "Remove it, or set CLOUDFS_HOME.")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return path


# --- accounts

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SOCKETS = "run"
"""The folder of control sockets where it has to lie among the accounts': no account can have this name."""


def check_account_name(name: str) -> str:
    """Return `name`, or raise UserError USAGE: it becomes a file name and a part of the mount's name."""
    if not _ACCOUNT_NAME.fullmatch(name) or name == _SOCKETS:
        raise UserError(
            f"{name!r} cannot be the name of an account.",
            hint="Use up to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit.",
            code=ExitCode.USAGE,
        )
    return name


def account_names(folders: Folders) -> list[str]:
    """Return the names of the accounts there are, sorted."""
    try:
        names = [path.stem for path in folders.accounts.iterdir() if path.suffix == ".toml"]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _ACCOUNT_NAME.fullmatch(name))


def pick_account(folders: Folders, name: str | None) -> str:
    """Return the named account, or the only one there is; raises UserError NO_ACCOUNT."""
    names = account_names(folders)
    if name is not None and check_account_name(name) in names:
        return name
    if name is None and len(names) == 1:
        return names[0]
    if not names:
        raise _no_account("There is no account yet.", "Begin with `cloudfs login URL`.")
    known = ", ".join(names)
    if name is None:
        raise _no_account("There are several accounts.", f"Name one of them: {known}.")
    raise _no_account(f"There is no account {name}.", f"The accounts are: {known}.")


def load_account(folders: Folders, name: str) -> Account:
    """Read an account's file; raises UserError: NO_ACCOUNT, or BAD_CONFIG naming the file and the key."""
    path = folders.account_file(name)
    text = b""
    try:
        text = path.read_bytes()
        account = msgspec.toml.decode(text, type=Account)
    except FileNotFoundError as error:
        raise _no_account(f"There is no account {name}.", "Make it with `cloudfs login`.") from error
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror}.", "Make it a file of yours.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        key, sentence = _explain(error)
        syntax = _LINE.search(sentence)
        place = f"{path}:{syntax[1]}" if syntax else _at(path, text, key)
        raise _bad(
            f"{place}: {sentence}",
            "Correct the file (docs/CONFIG.md says what may be in it), or delete it and log in again.",
        ) from error
    _check_url(_at(path, text, "url"), "url", account.url)
    if account.base_url:
        _check_url(_at(path, text, "base_url"), "base_url", account.base_url)
    if not account.user:
        raise _bad(f"{_at(path, text, 'user')}: user: is empty.", "Log in again.")
    for kept in account.settings.keep:
        _check_kept(_at(path, text, "settings.keep"), kept)
    _check_bandwidth(path, text, account.bandwidth)
    try:
        if account.settings.metrics is not None:
            published_at(account.settings.metrics)
    except ValueError as error:
        place = _at(path, text, "settings.metrics")
        raise _bad(
            f"{place}: settings.metrics: {error}.", "Give a port (1024 to 65535), or a path as in /a/b.prom."
        ) from error
    return account


def _check_bandwidth(path: Path, text: bytes, said: Bandwidth) -> None:
    for key, parse in (
        ("up", bandwidth.parse_timetable),
        ("down", bandwidth.parse_timetable),
        ("metered", bandwidth.parse_metered),
        ("metered_up", bandwidth.parse_metered),
    ):
        try:
            parse(getattr(said, key))
        except ValueError as error:
            place = f"bandwidth.{key}"
            raise _bad(
                f"{_at(path, text, place)}: {place}: {error}.",
                'A speed is written as "2 MB/s", "512k" or "off", a table as "08:00 512k 19:00 off" (docs/CONFIG.md).',
            ) from error


def published_at(metrics: int | str) -> Path | int:
    """Return the file or the port that `metrics` means; ValueError with a sentence."""
    if isinstance(metrics, str) and not metrics.isdecimal():
        path = Path(metrics).expanduser()
        if not path.is_absolute() or not path.name:
            raise ValueError(f"{metrics!r} is no absolute path of a file")
        return path
    if not 1024 <= int(metrics) <= 65535:
        raise ValueError(f"{metrics} is no port that a user may have")
    return int(metrics)


def _check_kept(place: str, kept: str) -> None:
    try:
        mount_path(kept)
    except ValueError as error:
        raise _bad(f"{place}: settings.keep: {error}.", 'Write it as in "/Documents/Letters".') from error


def save_account(folders: Folders, name: str, account: Account) -> None:
    """Write the account's file, atomically."""
    write_private(folders.account_file(name), msgspec.toml.encode(account))


def remove_account(folders: Folders, name: str) -> None:
    """Remove everything of an account: state, cache and file. Nobody may have it mounted.

    Killed in between, it is still listed or wholly gone: no later account of this name finds a part of it. Never fails
    on what is missing. Raises UserError BAD_CONFIG where something cannot be removed.
    """
    try:
        doomed = [_set_aside(folder / check_account_name(name)) for folder in (folders.state, folders.cache)]
        folders.account_file(name).unlink(missing_ok=True)
        (folders.runtime / folders.socket_name(name)).unlink(missing_ok=True)
        for folder in doomed:
            if folder.exists():
                shutil.rmtree(folder)
    except OSError as error:
        raise _bad(f"{error.filename} cannot be removed: {error.strerror}.", "Remove it by hand.") from error


def _set_aside(folder: Path) -> Path:
    """Take a folder away in one step, under a name that no account can have; and what an earlier try has left."""
    aside = folder.with_name(f".{folder.name}.removed")
    if aside.exists():
        shutil.rmtree(aside)
    with suppress(FileNotFoundError):
        folder.rename(aside)
    return aside


def _explain(error: Exception) -> tuple[str, str]:
    """Return the key in question and the sentence: of "Expected `int` - at `$.a.b`" a.b, "a.b: expected `int`."."""
    text, _, at = str(error).partition(" - at `$")
    place = at.rstrip("`").lstrip(".")
    if unknown := _UNKNOWN_KEY.search(text):
        place = ".".join(filter(None, (place, unknown[1])))
        return place, f"{place}: there is no such setting."
    return place, f"{place}: {text[:1].lower()}{text[1:]}." if place else f"{text.rstrip('.')}."


_LINE = re.compile(r"\(at line (\d+)")
_UNKNOWN_KEY = re.compile(r"unknown field `([^`]*)`")
_TABLE = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*["']?([\w.-]+)["']?\s*=""")


def _at(path: Path, text: bytes, place: str) -> str:
    """Name the file, and the line where that can be told: FILE:LINE."""
    table, missing = "", ""
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        if header := _TABLE.match(line):
            table = header[1].strip() + "."
            missing = f":{number}" if place == table.rstrip(".") else missing
        elif (key := _KEY.match(line)) and (table + key[1] == place or place.startswith(f"{table}{key[1]}.")):
            return f"{path}:{number}"
    return f"{path}{missing}"


def _check_url(place: str, key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise _bad(
            f"{place}: {key}: not a plain http or https address.", "Log in again with the right address."
        )


# --- secrets


def write_secret(folders: Folders, name: str, secret: str) -> None:
    """Keep the account's app password, replacing the old one in one step."""
    folders.account_state(name)
    write_private(folders.secret_file(name), secret.encode() + b"\n")


def read_secret(folders: Folders, name: str) -> str:
    """Return the account's app password.

    Raises UserError BAD_CONFIG when it is missing, not ours, or was readable by others.
    """
    return read_secret_file(folders.secret_file(name), f"Log in again: `cloudfs login URL --account {name}`.")


def read_secret_file(path: Path, again: str) -> str:
    """Return what a private file holds; `again` is the next step where it holds nothing usable. Raises as above."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _bad(f"The file {path} cannot be read: {error.strerror}.", again) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise _bad(f"The file {path} is not a file of yours.", again)
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise _bad(f"The file {path} is readable by others.", f"{again} Then revoke the old password.")
        raw = file.read(SECRET_MAX_BYTES + 1)
    secret = raw.decode(errors="replace").removesuffix("\n")
    if not secret or len(raw) > SECRET_MAX_BYTES or "\ufffd" in secret or "\n" in secret:
        raise _bad(f"The file {path} is damaged.", again)
    return secret


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a 0600 file with `data`, in one step and durably; its folder must be private.

    Whatever was planted at `path` is replaced, never followed. Raises UserError BAD_CONFIG.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _bad(
            f"{path} cannot be written: {error.strerror}.", "Look at the folder and the disk."
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bad(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.BAD_CONFIG)


def _no_account(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.NO_ACCOUNT)
