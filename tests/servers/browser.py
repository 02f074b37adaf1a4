"""What a person does in a browser to agree to a login, done with a plain HTTP client."""

from __future__ import annotations

import re
from html import unescape
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

__all__ = ["Browser", "form_of"]

TLS = httpx.create_ssl_context()


class Browser:
    """One browser with its cookies. `site_url`: the Nextcloud's address as typed, without a slash at the end.

    Addresses that the server makes by itself have lost the port (protocol.md §1); as behind a reverse proxy they are
    led to the right place.
    """

    def __init__(self, site_url: str) -> None:
        self._site_url = site_url
        headers = {
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "Accept": "text/html,application/xhtml+xml",
        }
        self.client = httpx.Client(headers=headers, timeout=60, verify=TLS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def go(self, url: str, fields: dict[str, str] | None = None) -> httpx.Response:
        """Open a page, or send a form, and follow where it leads."""
        reply = self._ask("GET" if fields is None else "POST", url, fields)
        while reply.is_redirect:
            reply = self._ask("GET", urljoin(str(reply.request.url), reply.headers["Location"]))
        return reply

    def _ask(self, method: str, url: str, fields: dict[str, str] | None = None) -> httpx.Response:
        parts, site = urlsplit(url), urlsplit(self._site_url)
        path = parts.path if parts.path.startswith(site.path + "/") else site.path + parts.path
        here = parts._replace(scheme=site.scheme, netloc=site.netloc, path=path).geturl()
        return self.client.request(method, here, data=fields)

    def log_in(self, page: httpx.Response, user: str, password: str) -> httpx.Response:
        """Fill in the form of the login page."""
        token = re.search(r'data-requesttoken="([^"]+)"', page.text)
        assert token is not None
        fields = {"user": user, "password": password, "requesttoken": unescape(token[1])}
        return self.go(str(page.request.url), fields)

    def grant(self, login_url: str, user: str, password: str) -> httpx.Response:
        """Open the flow's address, log in, and agree; return the last page."""
        picker = self.go(login_url)
        assert picker.status_code == 200, picker.text
        login_page = self.go(form_of(picker.text)[0])
        grant_page = self.log_in(login_page, user, password)
        assert grant_page.status_code == 200
        return self.go(*form_of(grant_page.text))


def form_of(page: str) -> tuple[str, dict[str, str]]:
    """Return where a page's form goes and what it carries."""
    action = re.search(r'<form[^>]*\saction="([^"]+)"', page)
    assert action is not None, page[:2000]
    inputs = re.findall(r'name="([^"]+)"\s+value="([^"]*)"', page)
    return unescape(action[1]), {unescape(name): unescape(value) for name, value in inputs}
