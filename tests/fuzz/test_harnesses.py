"""Documents that servers send, and what becomes of them when they are put together wrongly: a few dozen of each here.

`scripts/fuzz` does the same by the million.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cloudfs.errors import ProtocolViolation
from cloudfs.remote.ocs import Status
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion
from tests.fuzz.harnesses import HARNESSES, Harness

NAMES = sorted(HARNESSES)


def mutated(harness: Harness) -> st.SearchStrategy[bytes]:
    """Documents with pieces taken out, doubled, moved, or replaced by words, bytes and pieces of other documents."""

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        document = draw(st.sampled_from(harness.seeds))
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(document)))
            stop = draw(st.one_of(st.just(start), st.integers(start, len(document))))
            other = draw(st.sampled_from(harness.seeds))
            at = draw(st.integers(0, len(other)))
            piece = draw(
                st.one_of(
                    st.binary(max_size=4),
                    st.sampled_from([*harness.words, b""]),
                    st.just(other[at : at + draw(st.integers(0, 300))]),
                    st.just(document[start:stop] * 2),
                )
            )
            document = document[:start] + piece + document[stop:]
        return document

    return made()


@pytest.mark.parametrize("name", NAMES)
def test_what_servers_send_is_taken(name: str) -> None:
    harness = HARNESSES[name]
    for seed in harness.seeds:
        harness.judge(harness.read(seed))


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_whatever_comes_promises_are_kept(name: str, data: st.DataObject) -> None:
    harness = HARNESSES[name]
    harness(data.draw(st.one_of(mutated(harness), st.binary(max_size=200))))


VERSION = RemoteVersion("5f", 4, 1600000000)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("archives", {"a.txt": b"longer than it was"}),
        ("bodies", [bytes(40_000)]),
        ("headers", {"Last-Modified": "Sun, 13 Sep 2020 12:26:40 GMT"}),
        ("listings", (RemotePath("/a"), [RemoteEntry(RemotePath("/b"), Kind.FILE, VERSION)])),
        ("listings", (RemotePath("/"), [RemoteEntry(RemotePath("/../b"), Kind.FILE, VERSION)])),
        ("listings", (RemotePath("/"), [RemoteEntry(RemotePath("/a"), Kind.FILE, VERSION)] * 2)),
        ("ocs", (Status(installed=True, version="1").name + "\x1b[2J", None, None)),
        ("push", ([], "wss://evil.example.org/push")),
        ("search", [RemoteEntry(RemotePath("/a\0b"), Kind.FILE, VERSION, "77")]),
    ],
)
def test_judges_see_a_broken_promise(name: str, result: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of headers judges what it calls, and not a result: a reader that lets a time out of its range is seen."""
    if name == "headers":
        monkeypatch.setattr("cloudfs.remote.values.http_date_s", lambda _: 2**63)
    with pytest.raises(AssertionError):
        HARNESSES[name].judge(result)


def test_what_is_no_error_of_a_server_is_a_finding() -> None:
    def read(data: bytes) -> None:
        raise ProtocolViolation("no") if data == b"ours" else RecursionError

    harness = HARNESSES["bulk"]._replace(read=read)
    harness(b"ours")
    with pytest.raises(RecursionError):
        harness(b"other")
