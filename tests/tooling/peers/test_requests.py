"""Requests are counted right however their bytes are cut, and whatever their bodies look like."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts._peers.requests import RequestCounter

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /a HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n".ljust(40, b"\n")
CHUNKED = (
    b"PUT /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"14;name=value\r\nGET / HTTP/1.1\r\n\r\nxx\r\n3\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"
)
EMPTY = b"\r\nMKCOL /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_bodies_are_no_requests(size: int) -> None:
    methods: Counter[str] = Counter()
    counter = RequestCounter(methods)
    data = GET + PUT + GET + CHUNKED + EMPTY + CHUNKED + GET
    for begin in range(0, len(data), size):
        counter.feed(data[begin : begin + size])
    assert methods == {"GET": 3, "PUT": 3, "MKCOL": 1}


def test_a_head_counts_when_it_is_whole() -> None:
    methods: Counter[str] = Counter()
    counter = RequestCounter(methods)
    counter.feed(GET[:-1])
    assert not methods
    counter.feed(GET[-1:])
    assert methods == {"GET": 1}
