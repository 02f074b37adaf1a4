"""``/core/wipe/…``: a device asks whether it is to be wiped, and says that it was (protocol.md §11)."""

from __future__ import annotations

from urllib.parse import parse_qs

from tests.servers.standin.messages import JSON, Request, Response
from tests.servers.standin.site import Site


class Wipe:
    """Both questions, by app password and without a login."""

    needs_login = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """404 where there is nothing to wipe."""
        fields = parse_qs(request.body.read().decode())
        token, done = fields.get("token", [""])[0], request.path.endswith("/success")
        known = request.method == "POST" and self._site.users.wiped(token, done=done)
        body = b"[]" if done or not known else b'{"wipe":true}'
        return Response(200 if known else 404, [JSON], body, len(body))
