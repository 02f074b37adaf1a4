"""Counts HTTP requests in what one client sends over one connection, without keeping bodies (RFC 9112)."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["RequestCounter"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


class RequestCounter:
    """Is fed the bytes in their order, in pieces of any size, and adds up each head by its method."""

    def __init__(self, methods: Counter[str]) -> None:
        self._methods = methods
        self._text = b""
        """Of a head, a line with a chunk's length, or a trailer: what came of it so far."""
        self._body_bytes = 0
        """Bytes of a body, or of a chunk, that are still to come."""
        self._next = self._head

    def feed(self, data: bytes) -> None:
        """Take the next bytes. What is no HTTP counts as nothing."""
        while data:
            if self._body_bytes:
                skipped = min(self._body_bytes, len(data))
                self._body_bytes -= skipped
                data = data[skipped:]
            else:
                data = self._next(data)

    def _head(self, data: bytes) -> bytes:
        self._text += data
        head, end, rest = self._text.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not end:
            return b""
        self._text = b""
        self._methods[head.split(b" ", 1)[0].decode("latin-1")] += 1
        if _CHUNKED.search(head):
            self._next = self._chunk
        elif length := _LENGTH.search(head):
            self._body_bytes = int(length[1])
        return rest

    def _chunk(self, data: bytes) -> bytes:
        self._text += data
        line, end, rest = self._text.partition(b"\r\n")
        if not end:
            return b""
        self._text = b""
        size = int(line.split(b";")[0], 16)
        if size:
            self._body_bytes = size + len(b"\r\n")
        else:
            self._next = self._trailer
        return rest

    def _trailer(self, data: bytes) -> bytes:
        self._text += data
        line, end, rest = self._text.partition(b"\r\n")
        if not end:
            return b""
        self._text = b""
        if not line:
            self._next = self._head
        return rest
