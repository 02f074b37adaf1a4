"""``/csrftoken``: the request token of the session whose cookies ask, without which a POST by it is a forged one."""

from __future__ import annotations

import json

from tests.servers.standin.messages import Request, Response
from tests.servers.standin.site import Site


class CsrfToken:
    """Answers everybody (measured on 29.0.1), each time with another form of the same token."""

    needs_login = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """200, whether there is a session or not."""
        request.body.drain()
        body = json.dumps({"token": self._site.users.token_for(request)}).encode()
        return Response(200, [("Content-Type", "application/json; charset=utf-8")], body)
