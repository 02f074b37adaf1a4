"""The way of a request: log, faults, maintenance, login, endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from tests.servers.standin.endpoints.bulk import Bulk
from tests.servers.standin.endpoints.download import PATH as DOWNLOAD
from tests.servers.standin.endpoints.download import Download
from tests.servers.standin.endpoints.files import Files
from tests.servers.standin.endpoints.ocs import ROOT as OCS_ROOT
from tests.servers.standin.endpoints.ocs import Ocs
from tests.servers.standin.endpoints.root import Root
from tests.servers.standin.endpoints.status import Status
from tests.servers.standin.endpoints.trash import ROOT as TRASH_ROOT
from tests.servers.standin.endpoints.trash import Trash
from tests.servers.standin.endpoints.uploads import Uploads
from tests.servers.standin.endpoints.versions import ROOT as VERSIONS_ROOT
from tests.servers.standin.endpoints.versions import Versions
from tests.servers.standin.endpoints.weblogin import WebLogin
from tests.servers.standin.endpoints.wipe import Wipe
from tests.servers.standin.errors import DavError, FrontEndError
from tests.servers.standin.faults import Faults
from tests.servers.standin.log import Record, RequestLog
from tests.servers.standin.messages import XML, BodyCutError, Headers, Request, Response
from tests.servers.standin.site import Endpoint, Site
from tests.servers.standin.wire import ConnectionBrokenError, Delivery

COMMON_HEADERS: Headers = [
    ("Expires", "Thu, 19 Nov 1981 08:52:00 GMT"),
    ("Cache-Control", "no-store, no-cache, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Content-Security-Policy", "default-src 'none';"),
]


class Application:
    """Answers requests. ``endpoints`` maps path prefixes; the longest that fits wins."""

    def __init__(self, site: Site, log: RequestLog, faults: Faults) -> None:
        self._site = site
        self._log = log
        self._faults = faults
        self.ocs = Ocs(site)
        self.web_login = WebLogin(site)
        self.endpoints: dict[str, Endpoint] = {
            "/status.php": Status(site),
            OCS_ROOT: self.ocs,
            "/login": self.web_login,
            "/core/wipe/": Wipe(site),
            "/remote.php/dav/": Root(site),
            "/remote.php/dav/files/": Files(site),
            "/remote.php/webdav/": Files(site, legacy=True),
            "/remote.php/dav/uploads/": Uploads(site),
            VERSIONS_ROOT: Versions(site),
            TRASH_ROOT: Trash(site),
            "/remote.php/dav/bulk": Bulk(site),
            DOWNLOAD: Download(site),
        }
        self._records: dict[int, Record] = {}

    def answer(self, request: Request) -> tuple[Response, Delivery]:
        """Answer one request, with the fault that hits it, if any."""
        record = self._log.begin(request.method, request.target, request.headers)
        self._records[id(request)] = record
        rule = self._faults.match(record)
        try:
            if rule is None:
                response, delivery = self._execute(request), Delivery()
            else:
                record.fault = type(rule.action).__name__
                response, delivery = rule.apply(request, self._execute)
        except BodyCutError:
            self.finished(request, Delivery())
            raise ConnectionBrokenError from None
        except ConnectionBrokenError:
            self.finished(request, Delivery())
            raise
        record.status = response.status
        return response, delivery

    def finished(self, request: Request, delivery: Delivery) -> None:
        """Complete the record of a request."""
        record = self._records.pop(id(request), None)
        if record is not None:
            record.user = request.user.id if request.user is not None else None
            record.request_bytes = request.body.received_bytes
            record.response_bytes = delivery.sent_bytes
            record.done = True

    def _execute(self, request: Request) -> Response:
        try:
            return self._routed(request)
        except DavError as error:
            headers = [XML, *COMMON_HEADERS, *error.headers.items()]
            return Response(error.status, headers, error.body())
        except FrontEndError as error:
            body = error.body()
            return Response(error.status, [("Content-Type", "text/html")], body, len(body))

    def _routed(self, request: Request) -> Response:
        if not self._site.prefix:
            return self._routed_below(request)
        if not request.path.startswith(self._site.prefix + "/"):
            raise FrontEndError(404)
        _take_off(request, self._site.prefix)
        return _put_on(self._routed_below(request), self._site.prefix)

    def _routed_below(self, request: Request) -> Response:
        request.path = request.path.removeprefix("/index.php")
        prefix = _longest_prefix(request.path, self.endpoints)
        if prefix is None:
            raise FrontEndError(404)
        endpoint = self.endpoints[prefix]
        if not endpoint.needs_login:
            return endpoint.handle(request)
        if self._site.maintenance:
            # SOURCE: protocol.md §11: without Retry-After.
            message = "System is in maintenance mode."
            raise DavError(503, message, exception="OCA\\DAV\\Exception\\ServerMaintenanceMode")
        cookies = self._site.users.authenticate(request)
        try:
            response = endpoint.handle(request)
        except DavError as error:
            response = Response(error.status, [XML, *error.headers.items()], error.body())
        response.headers.extend([*COMMON_HEADERS, *cookies])
        return response


def _take_off(request: Request, prefix: str) -> None:
    """Make a request to an installation in a sub-folder one to the root."""
    request.path = request.path.removeprefix(prefix)
    request.target = request.target.removeprefix(prefix)
    places = {"destination", "if"}
    request.headers = {
        name: value.replace(f"{prefix}/remote.php/", "/remote.php/") if name in places else value
        for name, value in request.headers.items()
        if name != "accept-encoding"  # what was compressed could not be put right
    }


def _put_on(response: Response, prefix: str) -> Response:
    """Have an answer name the addresses of the sub-folder."""
    if XML in response.headers:
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        response.body = body.replace(b"<d:href>/", f"<d:href>{prefix}/".encode())
    response.headers = [
        (name, prefix + value if name == "Location" and value.startswith("/") else value)
        for name, value in response.headers
    ]
    return response


def _longest_prefix(path: str, endpoints: Mapping[str, Endpoint]) -> str | None:
    fitting = [prefix for prefix in endpoints if (path + "/").startswith(prefix.rstrip("/") + "/")]
    return max(fitting, key=len, default=None)
