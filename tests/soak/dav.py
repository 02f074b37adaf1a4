"""A WebDAV client that works under conditions: python -m tests.soak.dav ROOT WHO SEED URL USER PASSWORD_FILE PACE_S.

Everything it replaces or removes it has read before, and says so to the server (If-Match): it never gives up a content
that it does not know. It ends when ROOT/stop is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
from lxml import etree

from tests.soak.notes import Notes

__all__ = ["Folder"]

_WANTED = b'<d:propfind xmlns:d="DAV:"><d:prop><d:getetag/><d:resourcetype/></d:prop></d:propfind>'
_PATIENCE_S = 120.0
_DEEPEST = 3


class Folder:
    """A WebDAV folder. Paths are below it, without a slash in front. Raises httpx.HTTPError."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(auth=(user, password), timeout=_PATIENCE_S, trust_env=False)
        self.codes: Counter[str] = Counter()

    def close(self) -> None:
        self._client.close()

    def url_of(self, path: str) -> str:
        return f"{self._url}/{quote(path)}" if path else self._url

    def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        answer = self._client.request(method, self.url_of(path), headers=headers, content=content)
        self.codes[f"{method} {answer.status_code}"] += 1
        return answer

    def walk(self) -> dict[str, bool]:
        """Return all that is below: whether it is a folder."""
        answer = self.ask("PROPFIND", "", headers={"Depth": "infinity"}, content=_WANTED)
        answer.raise_for_status()
        above, found = unquote(urlsplit(self._url).path), {}
        for entry in etree.fromstring(answer.content).findall("{DAV:}response"):
            path = unquote(urlsplit(entry.findtext("{DAV:}href")).path)[len(above) :].strip("/")
            if path:
                found[path] = entry.find(".//{DAV:}collection") is not None
        return found


class Client:
    """Does one thing after the other in a folder."""

    def __init__(self, folder: Folder, notes: Notes) -> None:
        self._folder = folder
        self._notes = notes
        self._choose = notes.choose
        self._files: list[str] = []
        self._folders: list[str] = []
        self.kept = 0

    def turn(self) -> None:
        """Do one thing."""
        there = self._folder.walk()
        self._files = [path for path, is_folder in there.items() if not is_folder]
        self._folders = ["", *(path for path, is_folder in there.items() if is_folder)]
        ways = [self._create, self._edit, self._delete, self._move, self._make_folder, self._move_folder]
        if self._files:
            self._choose.choices(ways, [16, 36, 8, 10, 4, 4])[0]()
        else:
            self._create()

    def _new_name(self) -> str:
        return f"{self._choose.choice(self._folders)}/{self._notes.name()}".lstrip("/")

    def _get(self, path: str) -> tuple[bytes, str, str] | None:
        """Return a file's content, its SHA-1 and its ETag."""
        answer = self._folder.ask("GET", path)
        if answer.status_code != httpx.codes.OK:
            return None
        return answer.content, self._notes.seen(path, answer.content), answer.headers["etag"]

    def _put(self, path: str, data: bytes, parent: str | None, headers: dict[str, str]) -> None:
        digest = self._notes.made(path, data, parent)
        kind = "failed"
        try:
            answer = self._folder.ask("PUT", path, content=data, headers=headers)
            kind = "kept" if answer.is_success else "refused" if answer.is_client_error else "failed"
        finally:
            self.kept += kind == "kept"
            self._notes.note(kind, path=path, digest=digest, parent=parent)

    def _create(self) -> None:
        path = self._new_name()
        if path not in self._files:
            self._put(path, self._notes.content("create"), None, {"If-None-Match": "*"})

    def _edit(self) -> None:
        path = self._choose.choice(self._files)
        if (got := self._get(path)) is None:
            return
        data, parent, etag = got
        token, kind = f"{self._notes.token('edit')}\n".encode(), self._choose.random()
        at = len(data) if kind < 0.3 else self._choose.randrange(len(data) + 1)
        new = self._notes.content("rewrite") if kind > 0.6 else data[:at] + token + data[at + len(token) :]
        headers = {"If-Match": etag}
        if self._choose.random() < 0.5:
            headers["OC-Checksum"] = f"SHA1:{hashlib.sha1(new, usedforsecurity=False).hexdigest()}"
        self._put(path, new, parent, headers)

    def _delete(self) -> None:
        path = self._choose.choice(self._files)
        if (got := self._get(path)) is None:
            return
        refused = False
        try:
            refused = self._folder.ask("DELETE", path, headers={"If-Match": got[2]}).is_client_error
        finally:
            if not refused:
                self._notes.note("gone", path=path, digest=got[1])

    def _move(self) -> None:
        self._rename(self._choose.choice(self._files), self._new_name())

    def _rename(self, source: str, target: str) -> None:
        if not f"{target}/".startswith(f"{source}/") and target.count("/") <= _DEEPEST:
            headers = {"Destination": self._folder.url_of(target), "Overwrite": "F"}
            self._folder.ask("MOVE", source, headers=headers)

    def _make_folder(self) -> None:
        above = self._choose.choice(self._folders)
        if above.count("/") < _DEEPEST - 1:
            self._folder.ask("MKCOL", f"{above}/d{self._choose.randint(0, 12)}".lstrip("/"))

    def _move_folder(self) -> None:
        if len(self._folders) > 1:
            target = f"{self._choose.choice(self._folders)}/d{self._choose.randint(0, 12)}"
            self._rename(self._choose.choice(self._folders[1:]), target.lstrip("/"))


def main(root: Path, who: str, seed: str, folder: Folder, pace_s: float) -> None:
    """Work until the end of the run."""
    notes = Notes(root, who, seed)
    client = Client(folder, notes)
    while not (root / "stop").exists():
        with contextlib.suppress(httpx.HTTPError, etree.XMLSyntaxError):
            client.turn()
        time.sleep(notes.choose.expovariate(1 / pace_s))
    folder.close()
    notes.note("summary", kept=client.kept, done=folder.codes, errors={}, longest={})


if __name__ == "__main__":
    _, _root, _who, _seed, _url, _user, _file, _pace = sys.argv
    _password = Path(_file).read_text().splitlines()[0]
    main(Path(_root), _who, _seed, Folder(_url, _user, _password), float(_pace))
