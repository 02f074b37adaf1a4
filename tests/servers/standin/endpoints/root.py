"""``/remote.php/dav/`` and ``/remote.php/dav/files/``: what clients discover from (protocol.md §1)."""

from __future__ import annotations

from tests.servers.standin.dav.folders import ALLOW_ON_FOLDER
from tests.servers.standin.dav.location import DAV_ROOT
from tests.servers.standin.dav.propfind import DAV_FEATURES, asked_names, document
from tests.servers.standin.dav.search import search
from tests.servers.standin.dav.xmlio import DAV, Writer
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Request, Response, empty
from tests.servers.standin.names import quote, split_path
from tests.servers.standin.site import Site


class Root:
    """The collections above the accounts: they tell who is logged in, and list nothing."""

    needs_login = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """PROPFIND, OPTIONS and SEARCH; anything below that no other endpoint knows is 404."""
        segments = split_path(request.path[len(DAV_ROOT) :])
        if segments not in ((), ("files",)):
            raise DavError(404, f"File not found: {segments[0]} in 'root'")
        match request.method:
            case "OPTIONS":
                allow = ALLOW_ON_FOLDER + ("" if segments else ", SEARCH")
                headers = [
                    ("Allow", allow),
                    DAV_FEATURES,
                    ("MS-Author-Via", "DAV"),
                    ("Accept-Ranges", "bytes"),
                ]
                return empty(200, [*headers, ("DASL", "<DAV:basicsearch>")] if not segments else headers)
            case "PROPFIND":
                return self._propfind(request, DAV_ROOT + "".join(f"{name}/" for name in segments))
            case "SEARCH" if not segments:
                return search(self._site, request)
            case method:
                raise not_implemented(method)

    @staticmethod
    def _propfind(request: Request, href: str) -> Response:
        names, _ = asked_names(request.body.read())
        known: dict[str, str | None] = {
            DAV + "resourcetype": "<d:collection/>",
            DAV + "current-user-principal": (
                f"<d:href>{DAV_ROOT}principals/users/{quote(request.account.id)}/</d:href>"
            ),
        }
        found = {name: known[name] for name in names if name in known}
        missing: dict[str, str | None] = {name: None for name in names if name not in known}
        writer = Writer()
        propstats = [("200 OK", found)] if found else []
        writer.response(href, [*propstats, ("404 Not Found", missing)] if missing else propstats)
        return document(request, writer)
