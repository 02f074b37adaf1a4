"""``/ocs/v2.php/…``: capabilities, the user, app passwords (protocol.md §1, §11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

from tests.servers.standin.endpoints.status import VERSION
from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import JSON, XML, Request, Response, php_json
from tests.servers.standin.site import Site
from tests.servers.standin.users import User, Users

ROOT = "/ocs/v2.php/"

OcsData = Mapping[str, object] | list[object]
OcsCall = Callable[[Request], OcsData]


class OcsError(Exception):
    """A refused OCS call: HTTP status = OCS status, unless ``http_status`` says otherwise."""

    def __init__(self, code: int, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status or code


class Ocs:
    """The OCS calls by method and path. A later feature registers its calls with `add`."""

    needs_login = False

    def __init__(self, site: Site) -> None:
        self._site = site
        self.capabilities: dict[str, object] = _capabilities()
        """What ``/cloud/capabilities`` tells logged-in users; tests may change it."""
        self._calls: dict[tuple[str, str], OcsCall] = {}
        self.add("GET", "cloud/capabilities", self._capabilities)
        self.add("GET", "cloud/user", self._user)
        self.add("GET", "core/getapppassword", self._get_app_password)
        self.add("DELETE", "core/apppassword", self._delete_app_password)

    def add(self, method: str, path: str, call: OcsCall) -> None:
        """Serve one more call."""
        self._calls[method, path] = call

    def handle(self, request: Request) -> Response:
        """Answer in the format asked for; XML unless ``format=json`` says otherwise."""
        request.body.drain()
        as_json = request.query.get("format") == "json" or "application/json" in request.header("accept")
        if self._site.maintenance:
            response = _answer(503, 503, "Service unavailable", [], as_json=as_json)
            response.headers.append(("X-Nextcloud-Maintenance-Mode", "1"))
            return response
        try:
            cookies = self._log_in(request)
        except DavError:
            # SOURCE: measured on 29.0.1: wrong credentials are answered in XML, whatever format was asked for.
            refusal = _answer(401, 997, "Unauthorised", [], as_json=False)
            refusal.headers.append(("WWW-Authenticate", 'Basic realm="Authorisation Required"'))
            return refusal
        if request.header("ocs-apirequest").lower() != "true":
            body = b'{"message":"CSRF check failed"}'
            return Response(412, [JSON, *cookies], body, len(body))
        response = self._call(request, as_json=as_json)
        response.headers.extend(cookies)
        return response

    def _log_in(self, request: Request) -> list[tuple[str, str]]:
        if request.header("authorization") or request.header("cookie"):
            try:
                return self._site.users.authenticate(request)
            except DavError:
                if request.header("authorization"):
                    raise
        return []

    def _call(self, request: Request, *, as_json: bool) -> Response:
        call = self._calls.get((request.method, request.path.removeprefix(ROOT).rstrip("/")), _unknown_call)
        try:
            return _answer(200, 200, "OK", call(request), as_json=as_json)
        except OcsError as error:
            return _answer(error.http_status, error.code, str(error), [], as_json=as_json)

    def _capabilities(self, request: Request) -> OcsData:
        major, minor, micro = VERSION
        version = {"major": major, "minor": minor, "micro": micro, "string": f"{major}.{minor}.{micro}"}
        public = {key: self.capabilities[key] for key in ("bruteforce", "theming")}
        return {
            "version": version | {"edition": "", "extendedSupport": False},
            "capabilities": self.capabilities if request.user is not None else public,
        }

    def _user(self, request: Request) -> OcsData:
        user = logged_in(request)
        used = user.tree.root.size_bytes
        free = self._site.free_bytes(user)
        total = free + used if user.quota_bytes is None else user.quota_bytes
        return {
            "id": user.id,
            "backend": "Database",
            "quota": {
                "free": free,
                "used": used,
                "total": total,
                "relative": round(used / total * 100, 2) if total else 0,
                "quota": -3 if user.quota_bytes is None else user.quota_bytes,
            },
            "email": None,
            "displayname": user.id,
            "display-name": user.id,
            "groups": [],
            "language": "en",
            "locale": "",
        }

    def _get_app_password(self, request: Request) -> OcsData:
        user = logged_in(request)
        if request.app_password is not None:
            raise OcsError(403, "You cannot request an new apppassword with an apppassword")
        return {"apppassword": self._users.mint(user)}

    def _delete_app_password(self, request: Request) -> OcsData:
        user = logged_in(request)
        if request.app_password is None:
            raise OcsError(403, "no app password in use")
        self._users.revoke(user, request.app_password)
        return []

    @property
    def _users(self) -> Users:
        return self._site.users


def _unknown_call(request: Request) -> OcsData:
    del request
    raise OcsError(
        404,
        "Invalid query, please check the syntax. API specifications are here: "
        "http://www.freedesktop.org/wiki/Specifications/open-collaboration-services.\n",
    )


def logged_in(request: Request) -> User:
    """The user, or 401."""
    if request.user is None:
        raise OcsError(997, "Current user is not logged in", 401)
    return request.user


def _answer(http_status: int, code: int, message: str, data: OcsData, *, as_json: bool) -> Response:
    meta = {"status": "ok" if code == 200 else "failure", "statuscode": code, "message": message}  # OCS
    if as_json:
        body = php_json({"ocs": {"meta": meta, "data": data}})
        return Response(http_status, [JSON], body, len(body))
    xml = f'<?xml version="1.0"?>\n<ocs>\n{_element("meta", meta, 1)}{_element("data", data, 1)}</ocs>\n'.encode()
    return Response(http_status, [XML], xml, len(xml))


def _element(name: str, value: object, level: int) -> str:
    indent = " " * level
    if isinstance(value, Mapping):
        members = "".join(_element(key, member, level + 1) for key, member in value.items())
        return f"{indent}<{name}>\n{members}{indent}</{name}>\n" if members else f"{indent}<{name}/>\n"
    if isinstance(value, list):
        members = "".join(_element("element", member, level + 1) for member in value)
        return f"{indent}<{name}>\n{members}{indent}</{name}>\n" if members else f"{indent}<{name}/>\n"
    if value is None:
        return f"{indent}<{name}/>\n"
    shown = ("1" if value else "") if isinstance(value, bool) else str(value)
    return f"{indent}<{name}>{escape(shown)}</{name}>\n"


def _capabilities() -> dict[str, object]:
    return {
        "core": {"pollinterval": 60, "webdav-root": "remote.php/webdav", "reference-api": True},
        "bruteforce": {"delay": 0, "allow-listed": True},
        "files": {
            "bigfilechunking": True,
            "blacklisted_files": [".htaccess"],
            "forbidden_filename_characters": ["\\", "/"],
            "comments": True,
            "undelete": True,
            "versioning": True,
            "version_labeling": True,
            "version_deletion": True,
        },
        "dav": {"chunking": "1.0", "bulkupload": "1.0"},
        "theming": {"name": "Nextcloud", "url": "https://nextcloud.com", "color": "#00679e"},
    }
