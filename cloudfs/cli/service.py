"""`cloudfs service`: an account mounted by the systemd manager of the user, whenever that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from cloudfs.cli.common import holder_of, pick
from cloudfs.cli.logs import in_journal, show_log
from cloudfs.cli.output import one_line, print_json, waiting
from cloudfs.cli.states import warn
from cloudfs.config import Folders, account_names
from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mount_point import absolute

__all__ = ["enable", "install", "logs", "show", "start", "stop", "uninstall"]

_TEMPLATE = "cloudfs@.service"
_LOOK_S = 1.0
_PATIENCE_S = 120.0
"""Starting takes until the mount answers, stopping until it is unmounted."""


class Unit(msgspec.Struct, frozen=True):
    """How an account's unit is, as `--json` prints it."""

    account: str
    unit: str
    installed: bool
    enabled: bool
    active: str
    """As systemd says it: active, inactive, failed, activating …"""
    text: str
    """What the daemon says of itself."""
    pid: int
    restarts: int


def install(account: str | None, at: str | None, *, as_json: bool = False) -> None:
    """Put the unit in place; `at` is the folder to mount on, else ~/Cloud/ACCOUNT."""
    folders = Folders.from_environment()
    name = pick(folders, account)
    _look(name)  # without a manager nothing is written
    if _packaged():
        (_units() / _TEMPLATE).unlink(missing_ok=True)  # it would hide the package's, also from its updates
    else:
        _write(_units() / _TEMPLATE, _template())
    settings = _settings(at)
    drop_in = _drop_in(name)
    if settings:
        _write(drop_in, "[Service]\n" + "".join(f"Environment={line}\n" for line in settings))
    elif drop_in.exists():
        drop_in.unlink()
    _systemctl("daemon-reload")
    _tell(
        name,
        f"Installed {_unit(name)}, which mounts {name} at {_place(name, at)}.",
        f"Next: `cloudfs service enable {name}` for every login, `cloudfs service start {name}` for now.",
        as_json=as_json,
    )


def enable(account: str | None, *, as_json: bool = False) -> None:
    """Have it start with the user's manager, and now."""
    name = _installed(account)
    _systemctl("enable", _unit(name))
    if not as_json:
        print(f"{name} is mounted whenever you log in. Without a login, too: `loginctl enable-linger`.")
    start(name, as_json=as_json)


def start(account: str | None, *, as_json: bool = False) -> None:
    """Mount now; returns once the mount answers."""
    name = _installed(account)
    holder = holder_of(Folders.from_environment(), name)
    if holder is not None and not in_journal(holder, name):
        raise UserError(
            f"The account {name} is already mounted at {holder.mount_point} by the process {holder.pid}.",
            hint=f"End that first: `cloudfs unmount {name}`.",
            code=ExitCode.ALREADY_MOUNTED,
        )
    hint = f"`cloudfs service logs {name}` tells why."
    with waiting(f"starting {_unit(name)} …"):
        _systemctl("start", _unit(name), hint=hint, meanwhile=partial(_show_waiting, name))
    _tell(name, f"Started {_unit(name)}.", as_json=as_json)
    if not as_json:
        warn(Folders.from_environment(), name)


def stop(account: str | None, *, as_json: bool = False) -> None:
    """Unmount now; what was not sent goes up after the next start."""
    name = _installed(account)
    _systemctl("stop", _unit(name), hint=f"`cloudfs service logs {name}` tells why.")
    _tell(name, f"Stopped {_unit(name)}.", as_json=as_json)


def show(account: str | None, *, as_json: bool) -> None:
    """Print how the unit is; UserError NOT_MOUNTED where it is not running."""
    name = pick(Folders.from_environment(), account)
    unit = _look(name)
    if as_json:
        print_json(unit)
    else:
        print(f"{unit.unit}: {unit.active}, {'enabled' if unit.enabled else 'not enabled'}")
        for line in filter(None, (unit.text, f"process {unit.pid}" if unit.pid else "")):
            print(f"  {line}")
        if unit.restarts:
            print(f"  restarted {unit.restarts} times; `cloudfs service logs {name}` tells why")
    if unit.active != "active":
        raise UserError(
            f"The unit of {name} is {unit.active}."
            if unit.installed
            else f"There is no unit for {name} yet.",
            hint=f"`cloudfs service {'start' if unit.installed else 'install'} {name}`",
            code=ExitCode.NOT_MOUNTED,
        )


def logs(account: str | None, *, lines: int, follow: bool, as_json: bool = False) -> None:
    """Show what the unit has said."""
    show_log(_installed(account), lines=lines, follow=follow, journal=True, as_json=as_json)


def uninstall(account: str | None, *, as_json: bool = False) -> None:
    """Stop it and take it away; the account stays. Never fails on what is not there."""
    name = pick(Folders.from_environment(), account)
    _systemctl("disable", "--now", _unit(name), check=False)
    shutil.rmtree(_drop_in(name).parent, ignore_errors=True)
    others = [other for other in account_names(Folders.from_environment()) if other != name]
    if not any(_look(other).enabled for other in others):
        (_units() / _TEMPLATE).unlink(missing_ok=True)
    _systemctl("daemon-reload", check=False)
    _systemctl("reset-failed", _unit(name), check=False)
    _tell(
        name,
        f"Removed the unit of {name}. The account stays: `cloudfs mount {name} FOLDER` mounts it.",
        as_json=as_json,
    )


def _show_waiting(name: str) -> None:
    """Say what the unit waits for, where it does; as long as a keyring is locked, that is."""
    unit = _look(name)
    if unit.active == "activating" and unit.text:
        one_line(f"{unit.unit} is {unit.text}")


def _tell(name: str, *sentences: str, as_json: bool) -> None:
    """Say what was done; for programs, how the unit is now."""
    if as_json:
        print_json(_look(name))
    else:
        print("\n".join(sentences))


# --- the unit's files


def _units() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path("~/.config").expanduser()
    return base / "systemd" / "user"


def _unit(name: str) -> str:
    return f"cloudfs@{name}.service"


def _drop_in(name: str) -> Path:
    return _units() / f"{_unit(name)}.d" / "place.conf"


def _packaged() -> bool:
    """Tell whether this cloudfs came as a package with the unit: /usr/lib/systemd beside /usr/lib/cloudfs."""
    return Path(sys.prefix).with_name("systemd").joinpath("user", _TEMPLATE).exists()


def _is_in_place() -> bool:
    return _packaged() or (_units() / _TEMPLATE).exists()


def _template() -> str:
    beside = Path(__file__).with_name(_TEMPLATE)
    path = beside if beside.exists() else Path(__file__).parents[2] / "systemd" / _TEMPLATE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", hint="Install cloudfs anew.") from error
    return text.replace("%h/.local/bin/cloudfs", _quoted(_program()))


def _program() -> str:
    """Return where the `cloudfs` is that runs now."""
    beside = Path(sys.executable).with_name("cloudfs")
    found = str(beside) if beside.exists() else shutil.which("cloudfs")
    if found is None:
        raise UserError("The program cloudfs is not on your PATH.", hint="Install it, or make a link to it.")
    return found


def _settings(at: str | None) -> list[str]:
    found = []
    if at is not None:
        found.append(_quoted(f"CLOUDFS_PLACE={absolute(at)}"))
    if home := os.environ.get("CLOUDFS_HOME"):
        found.append(_quoted(f"CLOUDFS_HOME={absolute(home)}"))
    return found


def _quoted(text: str) -> str:
    """Write it as one word of a unit file (systemd.syntax(7)): blanks in quotes, specifiers and variables escaped."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"' if plain != text or " " in text else text


def _place(name: str, at: str | None) -> Path:
    return Path("~/Cloud").expanduser() / name if at is None else absolute(at)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}.",
            hint="Make it a file of yours.",
            code=ExitCode.NOT_DONE,
        ) from error


def _installed(account: str | None) -> str:
    name = pick(Folders.from_environment(), account)
    if not _is_in_place():
        raise UserError(
            "The unit is not installed.", hint=f"`cloudfs service install {name}`", code=ExitCode.NOT_DONE
        )
    return name


# --- systemd


def _look(name: str) -> Unit:
    names = "UnitFileState,ActiveState,StatusText,MainPID,NRestarts"
    told = _systemctl("show", "--property", names, _unit(name))
    facts = dict(line.partition("=")[::2] for line in told.splitlines())
    return Unit(
        account=name,
        unit=_unit(name),
        installed=_is_in_place(),
        enabled=facts.get("UnitFileState") == "enabled",
        active=facts.get("ActiveState", "unknown"),
        text=facts.get("StatusText", ""),
        pid=_number(facts.get("MainPID", "")),
        restarts=_number(facts.get("NRestarts", "")),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _systemctl(
    *words: str, hint: str = "", check: bool = True, meanwhile: Callable[[], None] | None = None
) -> str:
    """Ask the user's manager; UserError NOT_DONE with what it says.

    With `meanwhile`, which is called once a second, it may take as long as it likes.
    """
    command = ["systemctl", "--user", "--no-pager", *words]
    try:
        done = _run(command, meanwhile)
    except FileNotFoundError as error:
        raise UserError(
            "There is no systemd here.",
            hint="Start `cloudfs mount --foreground` by what your system has instead.",
            code=ExitCode.NOT_DONE,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            "systemd does not answer.", hint="Try again later.", code=ExitCode.NOT_DONE
        ) from error
    said = done.stderr.decode(errors="replace").strip()
    if "connect to bus" in said:
        raise UserError(
            "No systemd manager runs for you in this session.",
            hint="Log in directly, not by su or sudo; without any login: `sudo loginctl enable-linger USER`.",
            code=ExitCode.NOT_DONE,
        )
    if done.returncode and check:
        line = next(iter(said.splitlines()), f"code {done.returncode}").rstrip(".")
        raise UserError(f"systemd refused: {line}.", hint=hint, code=ExitCode.NOT_DONE)
    return done.stdout.decode(errors="replace")


def _run(command: list[str], meanwhile: Callable[[], None] | None) -> subprocess.CompletedProcess[bytes]:
    with subprocess.Popen(  # made here
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        try:
            while True:
                try:
                    out, err = process.communicate(timeout=_PATIENCE_S if meanwhile is None else _LOOK_S)
                except subprocess.TimeoutExpired:
                    if meanwhile is None:
                        raise
                    meanwhile()
                else:
                    return subprocess.CompletedProcess(command, process.returncode, out, err)
        except BaseException:
            process.kill()
            raise
