"""What a version of the server's is, and when two of them surely mean the same bytes."""

from __future__ import annotations

import pytest

from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion

SHA, OTHER_SHA = "SHA1:" + "a" * 40, "SHA1:" + "b" * 40


def version(
    etag: str = "e", size: int = 10, modified_s: int = 100, checksum: str | None = None
) -> RemoteVersion:
    return RemoteVersion(etag, size, modified_s, checksum)


CASES = [
    pytest.param(version(), version(), True, id="all equal"),
    pytest.param(version(), version(size=11), False, id="another size"),
    pytest.param(version(), version(etag="f"), False, id="another ETag, nobody knows a checksum"),
    pytest.param(version(), version(modified_s=101), True, id="another time alone: the ETag decides"),
    # protocol.md §3.2: one size and one second give one ETag; only checksums tell the contents apart.
    pytest.param(version(checksum=SHA), version(checksum=OTHER_SHA), False, id="ETag collision"),
    pytest.param(
        version(checksum=SHA), version(checksum=None), False, id="ETag collision, one wrote without checksum"
    ),
    pytest.param(version(checksum=None), version(checksum=SHA), False, id="the same the other way round"),
    pytest.param(
        version(checksum=SHA), version(etag="f", checksum=SHA), True, id="touched: new ETag, same bytes"
    ),
    pytest.param(
        version(checksum=SHA), version(checksum=SHA.lower()), True, id="checksums compare without case"
    ),
    pytest.param(
        version(checksum=SHA),
        version(checksum="MD5:" + "c" * 32),
        True,
        id="two algorithms: the ETag decides",
    ),
    pytest.param(
        version(checksum=SHA), version(etag="f", checksum="MD5:" + "c" * 32), False, id="and here it differs"
    ),
    # A server without ETags (protocol.md §15.2).
    pytest.param(version(etag=""), version(etag=""), True, id="no ETags, one time"),
    pytest.param(version(etag=""), version(etag="", modified_s=101), False, id="no ETags, another time"),
    pytest.param(version(etag=""), version(etag="e"), False, id="an ETag appeared"),
]


@pytest.mark.parametrize(("one", "other", "same"), CASES)
def test_same_content_is_only_said_of_what_surely_is(
    one: RemoteVersion, other: RemoteVersion, same: bool
) -> None:
    assert one.same_content(other) == same
    assert other.same_content(one) == same


@pytest.mark.parametrize(("path", "name"), [("/", ""), ("/a", "a"), ("/a/b c", "b c")])
def test_an_entry_is_named_by_the_last_part_of_its_path(path: str, name: str) -> None:
    assert RemoteEntry(RemotePath(path), Kind.FILE, version()).name == name
