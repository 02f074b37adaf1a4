"""Where an account's database and changed files are, and whether they are sealed: one small file says it.

    state/NAME/vault.json     which folder is the present one, and what opens it; none: state/NAME itself, plain
    state/NAME/sealed-…/      database, staging files, copy of the pins, all sealed
    state/NAME/plain-…/       the same, plain again
    state/NAME/new-…/         one that is being made: nothing counts in it yet
    state/NAME/keys.json      which keys may be kept somewhere, while a change is under way: what names them, not they

A change (`changing`) makes a whole new folder first. Then this file is replaced, in one step: that is the change. What
is not the present folder is removed afterwards, or by the next start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from cloudfs.config import SecretKind, write_private
from cloudfs.errors import ExitCode, UserError

__all__ = ["DATABASE", "Place", "find", "make_present", "note_keys", "noted_keys", "remove_others"]

DATABASE = "state.sqlite"
_FILE = "vault.json"
_KEYS = "keys.json"
_OURS = ("staging-*", f"{DATABASE}*", "pins.json")
"""What a folder of state has in it, and an account's own folder beside other things."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """The present state of an account."""

    folder: str = ""
    """Name in the account's folder; "": that itself."""
    key: SecretKind | None = None
    """Where the key is kept; None: it is plain."""
    cipher: str = ""
    check: str = ""
    """`Keys.check` of the key: another key is refused before anything is opened with it."""

    def path(self, state: Path) -> Path:
        """Return the folder."""
        return state / self.folder


def find(state: Path) -> Place:
    """Return the present place. Raises UserError BAD_CONFIG where nobody can tell which it is."""
    try:
        raw = (state / _FILE).read_bytes()
    except FileNotFoundError:
        made = sorted(path.name for path in _made(state))
        if made and not (state / DATABASE).exists():
            raise _bad(f"{state / _FILE} is missing, which says how to open {', '.join(made)}.") from None
        return Place()
    except OSError as error:
        raise _bad(f"{state / _FILE} cannot be read: {error.strerror}.") from error
    try:
        place = msgspec.json.decode(raw, type=Place)
    except msgspec.MsgspecError as error:
        raise _bad(f"{state / _FILE} is damaged: {error}.") from error
    if not place.folder or "/" in place.folder or place.folder.startswith("."):
        raise _bad(f"{state / _FILE} is damaged: it names no folder.")
    return place


def make_present(state: Path, place: Place) -> None:
    """From now on this is the present place; durable. Raises UserError BAD_CONFIG, and then it is not."""
    write_private(state / _FILE, msgspec.json.encode(place))


def note_keys(state: Path, places: Sequence[Place]) -> None:
    """Note whose keys are about to be made or given up, so that whoever comes after a kill finds them; durable.

    Raises UserError.
    """
    if places:
        write_private(state / _KEYS, msgspec.json.encode(places))
    else:
        (state / _KEYS).unlink(missing_ok=True)


def noted_keys(state: Path) -> list[Place]:
    """Return what was noted; nothing where that cannot be read: at worst a key stays that opens nothing."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state / _KEYS).read_bytes(), type=list[Place])
    return []


def remove_others(state: Path, place: Place) -> None:
    """Remove what a change left, done or broken off, of all but the present place. Raises OSError."""
    for folder in [*_made(state), *state.glob("new-*")]:
        if folder.name != place.folder:
            shutil.rmtree(folder)
    if place.folder:
        for path in (path for pattern in _OURS for path in state.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _made(state: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (path for kind in ("sealed-*", "plain-*") for path in state.glob(kind) if path.is_dir())


def _bad(message: str) -> UserError:
    hint = "Nothing was changed. Put the file back from a backup, or `cloudfs logout` gives up what is only here."
    return UserError(message, hint=hint, code=ExitCode.BAD_CONFIG)
