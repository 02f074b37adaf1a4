"""ETags: one plain form to keep and compare, and the headers made from it. Pure.

A `RemoteVersion` keeps an ETag without quotes and without W/, because one version of one file comes in
several dresses: unquoted in wsgidav's listings and quoted in its headers, W/"…" on Apache for the first
seconds and "…" later, W/"…" again behind a proxy that compressed the reply.
SOURCE: protocol.md §15.2 (wsgidav 4.4.0, Apache 2.4), §5 (nginx gzip in front of Nextcloud 29).

The dress is not kept. A condition is always sent as the strong, quoted form; a server that answers 412
although its object still is that version (it compares strings, or its ETag is weak at this moment, which
RFC 9110 §13.1.1 never lets match) is caught by looking: see `files._Condition`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["can_match", "if_match", "may_have_a_double", "normalise", "of_headers"]

_OPAQUE = re.compile(r"[\x21\x23-\x7e]+")
"""What RFC 9110 §8.8.3 allows between the quotes, ASCII only: anything else cannot go into a header."""


_LONGEST = 1000

_MARGIN_S = 3.0
"""Replies tell the time in whole seconds, after they were on their way; clocks are set in between."""


def normalise(raw: str | None) -> str:
    """Strip W/ and one pair of quotes; "" stands for no ETag, as does one of over a thousand characters."""
    text = (raw or "").strip()
    if len(text) > _LONGEST:
        return ""
    if text[:2] in {"W/", "w/"}:
        text = text[2:]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text


def of_headers(headers: Mapping[str, str]) -> str:
    """Return the plain ETag of a reply: OC-ETag where there is one, since proxies leave it alone."""
    return normalise(headers.get("OC-ETag")) or normalise(headers.get("ETag"))


def can_match(etag: str) -> bool:
    """Tell whether a condition can be made of this ETag at all."""
    return _OPAQUE.fullmatch(etag) is not None


def if_match(etag: str) -> str:
    """Return the value of If-Match for a plain ETag; ValueError where `can_match` says no."""
    if not can_match(etag):
        raise ValueError(f"no condition can be made of the ETag {etag!r}")
    return f'"{etag}"'


def may_have_a_double(modified_s: int, seen_there_s: float | None) -> bool:
    """Tell whether a version may have been written over within its second after it was seen.

    Nextcloud makes a file's ETag of its modification second: whatever else is written within that has the same one.
    `seen_there_s`: when it was seen, in Unix s by the server's clock, whose times the versions have; None for never.
    """
    return seen_there_s is None or modified_s > seen_there_s - _MARGIN_S
