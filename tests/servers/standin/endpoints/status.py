"""``/status.php``: answers without login, also in maintenance (protocol.md §1)."""

from __future__ import annotations

import json

from tests.servers.standin.messages import Request, Response
from tests.servers.standin.site import Site

VERSION = (29, 0, 1)


class Status:
    """Version and maintenance flag."""

    needs_login = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Always 200."""
        request.body.drain()
        version = ".".join(map(str, VERSION))
        body = {
            "installed": True,
            "maintenance": self._site.maintenance,
            "needsDbUpgrade": False,
            "version": f"{version}.1",
            "versionstring": version,
            "edition": "",
            "productname": "Nextcloud",
            "extendedSupport": False,
        }
        headers = [("Content-Type", "application/json"), ("Access-Control-Allow-Origin", "*")]
        return Response(200, headers, json.dumps(body, separators=(",", ":")).encode())
