"""A program that works in a mount as people and editors do.

python -m tests.soak.mounted ROOT WHO SEED MOUNT PACE_S LONGEST_S

It ends when ROOT/stop is there, and rests while ROOT/down-WHO is (the daemon was killed). An error of a call ends what
it was about and nothing else: which calls may fail is not its business, but what was acknowledged is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloudfs.paths import is_local_only
from tests.soak.calls import Calls
from tests.soak.notes import Notes

_DEEPEST = 3
_MOST_FILES = 70
_MOST_OPEN = 4


@dataclass
class _Open:
    """A file that is being changed: what it holds once it is closed, and what it held."""

    fd: int
    path: str
    digest: str
    parent: str | None


class Mounted:
    """One client of one mount."""

    def __init__(self, mount: str, calls: Calls) -> None:
        self._mount = mount
        self._calls = calls
        self._notes = calls.notes
        self._choose = calls.notes.choose
        self._files: list[str] = []
        self._folders: list[str] = []
        self._left_open: list[_Open] = []
        self._removed: set[int] = set()
        """Inodes that it removed itself: what it writes to them goes with its knowledge."""
        self.done: Counter[str] = Counter()
        self.kept = 0

    def turn(self) -> None:
        """Do one thing."""
        self._look()
        ways = list(_WEIGHTS)
        operation = self._choose.choices(ways, [_WEIGHTS[way] for way in ways])[0]
        if len(self._files) > _MOST_FILES and self._choose.random() < 0.3:
            operation = Mounted._unlink
        if not self._files and operation in _OF_FILES:
            operation = Mounted._create
        self.done[operation.__name__.strip("_")] += 1
        with contextlib.suppress(OSError):
            operation(self)

    def close_all(self, *, lost: bool = False) -> None:
        """Close what was left open; `lost`: with a daemon that is gone."""
        while self._left_open:
            file = self._left_open.pop()
            with contextlib.suppress(OSError):
                self._let_go(file) if lost else self._finish(file)

    # What there is

    def _look(self) -> None:
        self._files, self._folders = [], [self._mount]
        for folder in self._folders:
            with contextlib.suppress(OSError):
                for path, is_folder in self._calls("readdir", lambda at=folder: _entries(at), folder):  # type: ignore[misc]
                    (self._folders if is_folder else self._files).append(path)

    def _known(self, path: str) -> str:
        return path[len(self._mount) + 1 :]

    def _a_file(self) -> str:
        return self._choose.choice(self._files)

    def _new_name(self) -> str:
        return f"{self._choose.choice(self._folders)}/{self._notes.name()}"

    def _exists(self, path: str) -> bool:
        return self._calls("exists", lambda: os.path.lexists(path), path)

    # Pieces of what is done

    def _see(self, path: str, fd: int) -> tuple[bytes, str]:
        data = self._calls.read(fd)
        return data, self._notes.seen(self._known(path), data)

    def _read(self, path: str) -> str:
        """Read a whole file; return its SHA-1."""
        fd = self._calls.open(path, os.O_RDONLY)
        try:
            return self._see(path, fd)[1]
        finally:
            self._calls.close(fd)

    def _finish(self, file: _Open) -> None:
        """Close a file, and note what is safe from then on."""
        path, removed = self._known(file.path), self._is_removed(file.fd)
        try:
            self._calls.close(file.fd)
        except OSError:
            self._notes.note("failed", path=path, digest=file.digest, parent=file.parent)
            raise
        if removed:
            self._notes.note("gone", path=path, digest=file.digest)
            return
        self.kept += 1
        self._notes.note("kept", path=path, digest=file.digest, parent=file.parent)

    def _is_removed(self, fd: int) -> bool:
        try:
            return os.fstat(fd).st_ino in self._removed
        except OSError:
            return False

    def _give_up(self, path: str, call: Callable[[], None]) -> str:
        """Do something that ends a file's content; note which one that was, and return it.

        Another client's version may be taken over between the look and the call, so what was removed is looked at once
        more, by its inode.
        """
        fd = self._calls.open(path, os.O_RDONLY)
        try:
            digest = self._see(path, fd)[1]
            self._notes.note("gone", path=self._known(path), digest=digest)
            self._removed.add(os.fstat(fd).st_ino)
            call()
            try:
                last = self._read(f"/proc/self/fd/{fd}")
                self._notes.note("gone", path=self._known(path), digest=last)
            except OSError:
                self._notes.note("unseen", path=self._known(path))
            return digest
        finally:
            self._calls.close(fd)

    def _write_new(self, path: str, data: bytes, parent: str | None, *, synced: bool) -> None:
        digest = self._notes.made(self._known(path), data, parent)
        fd = self._calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        file = _Open(fd, path, digest, parent)
        self._changing(file, lambda: self._calls.write(fd, data))
        if synced:
            self._changing(file, lambda: self._calls("fsync", lambda: os.fsync(fd)))
        self._finish(file)

    def _changing(self, file: _Open, call: Callable[[], object]) -> None:
        """A change that fails leaves what it leaves: closed, and nothing acknowledged."""
        try:
            call()
        except OSError:
            self._let_go(file)
            raise

    def _let_go(self, file: _Open) -> None:
        """Close a file of which nobody knows what it holds."""
        self._notes.note("failed", path=self._known(file.path), digest=file.digest, parent=file.parent)
        with contextlib.suppress(OSError):
            os.close(file.fd)

    # What is done

    def _create(self) -> None:
        self._write_new(
            self._new_name(), self._notes.content("create"), None, synced=self._choose.random() < 0.2
        )

    def _rewrite(self) -> None:
        path = self._a_file()
        file = self._open_to_change(path)
        data = self._notes.content("rewrite")
        file.digest = self._notes.made(self._known(path), data, file.parent)

        def call() -> None:
            self._calls("truncate", lambda: os.ftruncate(file.fd, 0))
            self._calls.write(file.fd, data)

        self._changing(file, call)
        self._finish(file)

    def _open_to_change(self, path: str) -> _Open:
        fd = self._calls.open(path, os.O_RDWR)
        try:
            digest = self._see(path, fd)[1]
        except OSError:
            os.close(fd)
            raise
        return _Open(fd, path, digest, digest)

    def _change(self) -> None:
        file = self._open_to_change(self._a_file())
        self._edit(file)
        self._finish_or_leave(file)

    def _go_on(self) -> None:
        if not self._left_open:
            return
        file = self._left_open.pop(self._choose.randrange(len(self._left_open)))
        if self._choose.random() < 0.6:
            self._edit(file)
        self._finish_or_leave(file)

    def _finish_or_leave(self, file: _Open) -> None:
        if self._choose.random() < 0.3 and len(self._left_open) < _MOST_OPEN:
            self._left_open.append(file)
        else:
            self._finish(file)

    def _edit(self, file: _Open) -> None:
        """Change some of an open file, and look whether it holds just that."""

        def call() -> None:
            base, parent = self._see(file.path, file.fd)
            new = self._edited(file, base, parent)
            back = self._calls.read(file.fd)
            file.digest = self._notes.contents.keep(back)
            if back != new:
                self._notes.note("wrong", path=self._known(file.path), digest=file.digest)
            if self._choose.random() < 0.15:
                self._calls("fsync", lambda: os.fsync(file.fd))

        self._changing(file, call)

    def _edited(self, file: _Open, base: bytes, parent: str) -> bytes:
        path, kind = self._known(file.path), self._choose.random()
        token = f"{self._notes.token('edit')}\n".encode()
        if kind < 0.8:  # over what is there, or at its end
            at = self._choose.randrange(len(base)) if kind < 0.5 and base else len(base)
            new = base[:at] + token + base[at + len(token) :]
            self._notes.made(path, new, parent)
            self._calls.write(file.fd, token, at)
            return new
        size = (
            self._choose.randrange(len(base) + 1) if kind < 0.94 else len(base) + self._choose.randrange(5000)
        )
        cut = base[:size].ljust(size, b"\0")
        new = (token + cut[len(token) :])[:size]  # or nobody could tell it from others of that size
        self._notes.made(path, cut, parent)
        self._notes.made(path, new, parent)
        self._calls("truncate", lambda: os.ftruncate(file.fd, size))
        if new:
            self._calls.write(file.fd, new[: len(token)])
        return new

    def _append_unseen(self) -> None:
        """Add to the end of a file without reading it, as logs are written."""
        path, tail = self._a_file(), self._notes.tail()
        fd = self._calls.open(path, os.O_WRONLY | os.O_APPEND)
        words = {"path": self._known(path), "tail": tail.decode()}
        self._notes.note("tail", **words)
        self._changing(_Open(fd, path, "", None), lambda: self._calls("append", lambda: os.write(fd, tail)))
        removed = self._is_removed(fd)
        self._calls.close(fd)
        if not removed:
            self._notes.note("tail kept", **words)

    def _save(self) -> None:
        """Save as programs do: a new file and a rename over the old one."""
        path = self._a_file() if self._files and self._choose.random() < 0.85 else self._new_name()
        folder, name = os.path.split(path)
        mark = f"{self._choose.getrandbits(24):06X}"
        is_glib = self._choose.random() < 0.5
        new = f"{folder}/.goutputstream-{mark}" if is_glib else f"{folder}/{name[:20]}.tmp{mark}"
        self._write_new(new, self._notes.content("save", at_most=200_000), None, synced=is_glib)
        if self._exists(path):
            self._give_up(path, lambda: self._calls.rename(new, path))
        else:
            self._calls.rename(new, path)

    def _save_beside_backup(self) -> None:
        """Save as vim does: the old one is set aside, the new one has its name, the old one goes."""
        path = self._a_file()
        backup = f"{path}~"
        if is_local_only(os.path.basename(path)) or self._exists(backup):
            return
        parent = self._read(path)
        self._calls.rename(path, backup)
        self._write_new(path, self._notes.content("save", at_most=200_000), parent, synced=True)
        self._give_up(backup, lambda: self._calls("unlink", lambda: os.unlink(backup), backup))

    def _rename(self) -> None:
        source = self._a_file()
        target = self._new_name() if self._choose.random() < 0.7 else self._a_file()
        if source == target or target in self._folders:
            return
        if is_local_only(os.path.basename(source)):
            target = source.rstrip("~")
        if self._exists(target):
            self._give_up(target, lambda: self._calls.rename(source, target))
        else:
            self._calls.rename(source, target)

    def _exchange(self) -> None:
        one, other = self._a_file(), self._a_file()
        if one != other:
            self._calls.exchange(one, other)

    def _unlink(self) -> None:
        path = self._a_file()
        self._give_up(path, lambda: self._calls("unlink", lambda: os.unlink(path), path))

    def _mkdir(self) -> None:
        path = f"{self._a_shallow_folder()}/d{self._choose.randint(0, 12)}"
        self._calls("mkdir", lambda: os.mkdir(path), path)

    def _a_shallow_folder(self) -> str:
        folder = self._choose.choice(self._folders)
        return self._mount if self._known(folder).count("/") >= _DEEPEST - 1 else folder

    def _rmdir(self) -> None:
        if len(self._folders) > 1:
            path = self._choose.choice(self._folders[1:])
            self._calls("rmdir", lambda: os.rmdir(path), path)

    def _remove_tree(self) -> None:
        if len(self._folders) < 6:
            return
        top = self._choose.choice(self._folders[1:])
        for path in [path for path in self._files if path.startswith(f"{top}/")]:
            self._give_up(path, lambda at=path: self._calls("unlink", lambda: os.unlink(at), at))  # type: ignore[misc]
        inside = [path for path in self._folders if f"{path}/".startswith(f"{top}/")]
        for path in sorted(inside, key=len, reverse=True):
            self._calls("rmdir", lambda at=path: os.rmdir(at), path)  # type: ignore[misc]

    def _move_folder(self) -> None:
        if len(self._folders) < 2:
            return
        source = self._choose.choice(self._folders[1:])
        target = f"{self._a_shallow_folder()}/d{self._choose.randint(0, 12)}"
        if not f"{target}/".startswith(f"{source}/"):
            self._calls.rename(source, target)

    def _read_some(self) -> None:
        for path in self._choose.sample(self._files, min(len(self._files), 3)):
            self._read(path)


_OF_FILES: dict[Callable[[Mounted], None], float] = {
    Mounted._rewrite: 8,
    Mounted._change: 18,
    Mounted._append_unseen: 6,
    Mounted._save: 10,
    Mounted._save_beside_backup: 4,
    Mounted._rename: 9,
    Mounted._exchange: 2,
    Mounted._unlink: 7,
    Mounted._read_some: 5,
}
_WEIGHTS: dict[Callable[[Mounted], None], float] = {
    **_OF_FILES,
    Mounted._create: 14,
    Mounted._go_on: 8,
    Mounted._mkdir: 4,
    Mounted._rmdir: 1.5,
    Mounted._remove_tree: 0.7,
    Mounted._move_folder: 3,
}


def _entries(folder: str) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]


def main(root: Path, who: str, seed: str, mount: str, pace_s: float, longest_s: float) -> None:
    """Work until the end of the run."""
    calls = Calls(Notes(root, who, seed), longest_s)
    client = Mounted(mount, calls)
    while not (root / "stop").exists():
        if (root / f"down-{who}").exists():
            client.close_all(lost=True)
            time.sleep(0.1)
            continue
        client.turn()
        time.sleep(calls.notes.choose.expovariate(1 / pace_s))
    client.close_all()
    calls.notes.note(
        "summary", done=client.done, kept=client.kept, errors=calls.errors, longest=calls.longest
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]), float(sys.argv[6]))
