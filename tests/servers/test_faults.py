"""The stand-in fails as told, and only then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.servers import (
    CAPTIVE_PORTAL,
    Answer,
    BlackHole,
    CutResponse,
    CutUpload,
    Delay,
    Drop,
    Hold,
    LoseReply,
    Record,
    Spoil,
    StandIn,
    WrongLength,
)
from tests.servers.test_uploads_cut import wait_until

BIG = b"0123456789" * 100_000


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class TestMatching:
    def test_the_first_request_that_matches_is_hit_once(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Answer(503), method="GET", path=r"/b$")
        assert [client.get(name).status_code for name in ("a", "b", "b")] == [404, 503, 404]

    def test_nth_and_times(self, server: StandIn, client: httpx.Client) -> None:
        rule = server.faults.add(Answer(503), nth=2, times=2)
        assert [client.get("a").status_code for _ in range(5)] == [404, 503, 503, 404, 404]
        assert rule.hits == 2

    def test_for_ever_until_removed(self, server: StandIn, client: httpx.Client) -> None:
        rule = server.faults.add(Answer(503), times=None)
        assert [client.get("a").status_code for _ in range(3)] == [503] * 3
        server.faults.remove(rule)
        assert client.get("a").status_code == 404

    def test_call_number_counts_from_the_reset_of_the_log(
        self, server: StandIn, client: httpx.Client
    ) -> None:
        client.get("a")
        server.requests.reset()
        server.faults.add(Answer(503), call=2)
        assert [client.get("a").status_code for _ in range(3)] == [404, 503, 404]

    def test_predicate(self, server: StandIn, client: httpx.Client) -> None:
        def is_ranged(record: Record) -> bool:
            return "range" in record.headers

        server.faults.add(Answer(503), predicate=is_ranged, times=None)
        assert client.get("a").status_code == 404
        assert client.get("a", headers={"Range": "bytes=1-2"}).status_code == 503

    def test_the_path_is_matched_decoded(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Answer(503), path="/ü x$")
        assert client.get("%c3%bc%20x").status_code == 503


class TestActions:
    def test_answer_instead_of_executing(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Answer(503, b"later", {"Retry-After": "7"}), method="PUT")
        reply = client.put("f", content=BIG)
        assert (reply.status_code, reply.content, reply.headers["Retry-After"]) == (503, b"later", "7")
        assert not server.account("alice").exists("/f")

    def test_captive_portal(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Answer(200, CAPTIVE_PORTAL, {"Content-Type": "text/html"}))
        reply = client.request("PROPFIND", "")
        assert (reply.status_code, reply.content) == (200, CAPTIVE_PORTAL)

    def test_drop_before_executing(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Drop(), method="PUT")
        with pytest.raises(httpx.TransportError):
            client.put("f", content=b"1")
        assert not server.account("alice").exists("/f")
        assert client.put("f", content=b"1").status_code == 201

    def test_drop_by_reset(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Drop(reset=True), method="GET")
        with pytest.raises(httpx.ReadError):
            client.get("f")

    def test_lost_reply_is_executed(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(LoseReply(), method="PUT")
        with pytest.raises(httpx.TransportError):
            client.put("f", content=b"1")
        assert server.account("alice").read("/f") == b"1"
        assert server.requests[0].status is None

    def test_response_is_cut(self, server: StandIn, client: httpx.Client) -> None:
        server.account("alice").write("/f", BIG)
        server.faults.add(CutResponse(600_000), method="GET")
        received: list[bytes] = []
        with client.stream("GET", "f") as reply:
            assert reply.headers["Content-Length"] == str(len(BIG))
            with pytest.raises(httpx.RemoteProtocolError):
                received.extend(reply.iter_raw())
        assert b"".join(received) == BIG[:600_000]
        assert client.get("f").content == BIG

    def test_listing_is_cut(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(CutResponse(100), method="PROPFIND")
        with pytest.raises(httpx.RemoteProtocolError):
            client.request("PROPFIND", "", headers={"Accept-Encoding": "identity"})

    def test_upload_is_cut(self, server: StandIn, client: httpx.Client) -> None:
        rule = server.faults.add(CutUpload(300_000), method="PUT")
        with pytest.raises(httpx.TransportError):
            client.put("f", content=BIG)
        assert rule.wait_hit()
        assert not server.account("alice").exists("/f")
        assert server.requests[0].request_bytes == 300_000

    @pytest.mark.parametrize("by", [-3, 3])
    def test_wrong_length(self, server: StandIn, client: httpx.Client, by: int) -> None:
        server.account("alice").write("/f", b"0123456789")
        server.faults.add(WrongLength(by), method="GET")
        if by < 0:
            assert client.get("f").content == b"0123456"
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("f")
        assert client.get("f").content == b"0123456789"

    def test_spoiled(self, server: StandIn, client: httpx.Client) -> None:
        server.account("alice").write("/f", BIG)
        server.faults.add(Spoil(at=700_000), method="GET", times=2)
        bodies = [client.get("f").content for _ in range(3)]
        assert bodies[0] == bodies[1] == BIG[:700_000] + b"1" + BIG[700_001:]
        assert bodies[2] == BIG
        server.faults.add(Spoil(by=0), method="GET", times=None)
        assert len({client.get("f").content for _ in range(3)} | {BIG}) == 4

    def test_delay(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Delay(0.2))
        begin = time.monotonic()
        assert client.get("f").status_code == 404
        assert time.monotonic() - begin >= 0.2

    def test_hold_before_executing(
        self, server: StandIn, client: httpx.Client, pool: ThreadPoolExecutor
    ) -> None:
        rule = server.faults.add(Hold(), method="PUT")
        pending = pool.submit(client.put, "f", content=b"1")
        assert rule.wait_hit()
        assert not server.account("alice").exists("/f")
        rule.release()
        assert pending.result().status_code == 201

    def test_hold_after_executing(
        self, server: StandIn, client: httpx.Client, pool: ThreadPoolExecutor
    ) -> None:
        rule = server.faults.add(Hold(after_execution=True), method="PUT")
        pending = pool.submit(client.put, "f", content=b"1")
        assert rule.wait_hit()
        assert server.account("alice").exists("/f")
        assert not pending.done()
        rule.release()
        assert pending.result().status_code == 201

    def test_black_hole_ends_when_released(self, server: StandIn, client: httpx.Client) -> None:
        rule = server.faults.add(BlackHole(), method="GET")
        with pytest.raises(httpx.ReadTimeout):
            client.get("f", timeout=0.3)
        rule.release()
        assert client.get("f").status_code == 404

    def test_stop_ends_black_holes_at_once(self, pool: ThreadPoolExecutor) -> None:
        with StandIn() as server:
            rule = server.faults.add(BlackHole(), times=None)
            pending = [pool.submit(httpx.get, server.url, timeout=20) for _ in range(3)]
            assert rule.wait_hit()
            begin = time.monotonic()
            server.stop()
            assert time.monotonic() - begin < 2
            for one in pending:
                with pytest.raises(httpx.TransportError):
                    one.result()


class TestLog:
    def test_records(self, server: StandIn, client: httpx.Client) -> None:
        client.put("a b", content=b"123", headers={"X-OC-Mtime": "1600000000"})
        client.get("a b")
        put, get = server.requests
        wait_until(lambda: put.done and get.done)  # the client may have its answer before it is written down
        assert (put.method, put.path, put.status) == ("PUT", "/remote.php/dav/files/alice/a b", 201)
        assert (put.number, put.user, put.request_bytes, put.done) == (1, "alice", 3, True)
        assert put.headers["x-oc-mtime"] == "1600000000"
        assert (get.status, get.response_bytes) == (200, 3)

    def test_matching(self, server: StandIn, client: httpx.Client) -> None:
        for name in ("a", "b", "a"):
            client.get(name)
        client.request("PROPFIND", "")
        assert server.requests.count("GET") == 3
        assert server.requests.count("GET", "/a$") == 2
        assert server.requests.methods == ["GET", "GET", "GET", "PROPFIND"]
        server.requests.reset()
        assert len(server.requests) == 0

    def test_names_the_fault(self, server: StandIn, client: httpx.Client) -> None:
        server.faults.add(Answer(500))
        client.get("f")
        assert server.requests[0].fault == "Answer"
        assert "GET /remote.php/dav/files/alice/f -> 500 [Answer]" in str(server.requests)

    def test_requests_of_many_threads(
        self, server: StandIn, client: httpx.Client, pool: ThreadPoolExecutor
    ) -> None:
        barrier = threading.Barrier(8)

        def put(number: int) -> int:
            barrier.wait()
            return client.put(f"f{number}", content=b"%d" % number).status_code

        assert list(pool.map(put, range(8))) == [201] * 8
        assert sorted(record.number for record in server.requests) == list(range(1, 9))
        assert len(server.account("alice").tree()) == 8
