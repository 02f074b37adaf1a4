"""wsgidav with the habits of servers that not every machine has: what nginx and lighttpd were measured to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from tests.servers.plain.wsgidav import Application, WsgidavServer

_MEMBER = re.compile(rb"<(\w+:)response>.*?</\1response>", re.DOTALL)
_HREF = re.compile(rb"<\w+:href>([^<]*)<")
_ETAG = re.compile(rb"<(\w+:)getetag[^>]*>[^<]*</\1getetag>")


class _Dialect(WsgidavServer):
    """`refuse` answers in the place of the server, `head` and `body` alter what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        """Methods and paths, in order."""

    def refuse(self, method: str, path: str) -> str | None:
        """Return the status of a refusal."""
        del method, path
        return None

    def head(self, method: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers that an answer has instead."""
        del method
        return headers

    def body(self, method: str, body: bytes) -> bytes:
        """Return the body of a listing that it has instead."""
        del method
        return body

    def before(self, application: Application) -> Application:
        """Stand before wsgidav."""

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
            self.asked.append((method, path))
            if status := self.refuse(method, path):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response(status, [("Content-Length", "0"), ("Location", f"{path}/")])
                return [b""]
            if method != "PROPFIND":
                return application(
                    environ,
                    lambda line, headers, *rest: start_response(line, self.head(method, headers), *rest),
                )
            told: list[Any] = []
            body = self.body(method, b"".join(application(environ, lambda *head: told.append(head))))
            line, headers, *rest = told[-1]
            kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
            start_response(line, [*kept, ("Content-Length", str(len(body)))], *rest)
            return [body]

        return answer

    def _is_folder_without_slash(self, path: str) -> bool:
        return not path.endswith("/") and (self.root / path.strip("/")).is_dir()


class LikeNginx(_Dialect):
    """nginx 1.22.1 with its dav module and dav-ext 3.0.0: names that begin with a dot are in no listing of a folder."""

    def refuse(self, method: str, path: str) -> str | None:
        """Refuse changes of folders without a slash."""
        wants_slash = method in {"MOVE", "DELETE"} and self._is_folder_without_slash(path)
        return {"MOVE": "400 Bad Request", "DELETE": "409 Conflict"}[method] if wants_slash else None

    def body(self, method: str, body: bytes) -> bytes:
        """Leave out ETags, and members with a dot."""
        del method
        own = True

        def member(found: re.Match[bytes]) -> bytes:
            nonlocal own
            href = _HREF.search(found[0])
            name = href[1].rstrip(b"/").rpartition(b"/")[2] if href else b""
            hidden, own = name.startswith(b".") and not own, False
            return b"" if hidden else found[0]

        return _MEMBER.sub(member, _ETAG.sub(b"", body))


class LikeLighttpd(_Dialect):
    """lighttpd 1.4.69: of a file whose type it does not know a GET tells neither ETag nor time."""

    def refuse(self, method: str, path: str) -> str | None:
        """Redirect changes of folders without a slash."""
        wants_slash = method in {"MOVE", "DELETE"} and self._is_folder_without_slash(path)
        return "308 Permanent Redirect" if wants_slash else None

    def head(self, method: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Name no version of what is read."""
        if method != "GET":
            return headers
        return [(name, value) for name, value in headers if name.lower() not in {"etag", "last-modified"}]


class LikeRclone(_Dialect):
    """rclone 1.75.2: a name with a control character is stored under another one."""

    def refuse(self, method: str, path: str) -> str | None:
        """Say that it was stored, and store nothing."""
        return "201 Created" if method == "PUT" and "\t" in path else None
