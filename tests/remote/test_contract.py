"""The promises of `protocol.Remote`, kept on every server: a stand-in and a real Nextcloud, and three plain ones."""

from __future__ import annotations

import hashlib
import os
import unicodedata

import msgspec
import pytest
import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    LocalDamage,
    Locked,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    Unsupported,
)
from cloudfs.paths import join
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition, Remote, Space
from cloudfs.types import Kind, RemotePath, RemoteVersion
from tests.remote.conftest import Login, body_of, store

NAMES = [
    "a b",
    " leading and trailing ",
    "%41%2f",
    "#?&+;=@,$!",
    "x[1](2){3}'\"~^`|",
    "ünïcödé ß € 語 😀",
    "...",
    ".hidden",
    "CON",
    "x.PART",
    "a:b*c<d>",
]


async def test_it_is_a_remote(remote: WebdavRemote) -> None:
    as_promised: Remote = remote  # mypy checks every signature
    assert as_promised.features.name


async def test_connect_tells_what_the_server_is(remote: WebdavRemote, login: Login, site: Site) -> None:
    features = await remote.connect()
    assert features == site.features == remote.features
    assert features.nextcloud == (login.kind in {"standin", "real"})
    assert features.conditional_put == (login.kind in {"standin", "real", "apache"})
    assert features.name


async def test_the_root(remote: WebdavRemote) -> None:
    root = await remote.stat(RemotePath("/"))
    assert (root.path, root.kind, root.name) == ("/", Kind.FOLDER, "")
    assert bool(root.file_id) == remote.features.nextcloud


async def test_a_file_goes_up_and_comes_back(remote: WebdavRemote, top: RemotePath) -> None:
    data = os.urandom(200_000)
    checksum = "SHA1:" + hashlib.sha1(data).hexdigest()  # noqa: S324  # what Nextcloud's clients use
    path = join(top, "a.bin")
    stored = await remote.put(
        path, body_of(data), len(data), Condition(absent=True), mtime_s=1_500_000_000, checksum=checksum
    )
    entry = await remote.stat(path)
    assert (entry.kind, entry.version.size) == (Kind.FILE, len(data))
    assert stored.etag == entry.version.etag != ""
    assert stored.file_id == entry.file_id
    if remote.features.checksums:
        assert entry.version.checksum == checksum
    assert stored.mtime_kept == (entry.version.modified_s == 1_500_000_000)
    assert stored.mtime_kept or not remote.features.sets_mtime
    size, version = len(data), entry.version
    for start, stop in [(0, size), (0, 1), (0, 2), (1, 2), (size - 1, size), (777, 100_000), (5, 5)]:
        assert await remote.get_range(path, start, stop, version) == data[start:stop]
        async with remote.stream(path, start, stop, version) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == data[start:stop]


@pytest.mark.parametrize("size", [0, 1, 2, 3])
async def test_tiny_files(remote: WebdavRemote, top: RemotePath, size: int) -> None:
    path, data = join(top, "tiny"), b"xyz"[:size]
    await store(remote, path, data)
    version = (await remote.stat(path)).version
    assert version.size == size
    assert await remote.get_range(path, 0, size, version) == data
    for start in range(size):
        assert await remote.get_range(path, start, start + 1, version) == data[start : start + 1]


@pytest.mark.parametrize("name", NAMES)
async def test_names_survive_the_wire(remote: WebdavRemote, top: RemotePath, login: Login, name: str) -> None:
    if login.kind == "rclone" and name.startswith(" "):
        pytest.skip("rclone encodes leading and trailing blanks its own way")
    folder = join(top, name)
    await remote.make_folder(folder)
    await store(remote, join(folder, name), b"1")
    if login.kind == "wsgidav" and set(name) & set("?;"):
        with pytest.raises(ProtocolViolation):
            await remote.move(join(folder, name), join(top, name + "2"))
        return
    own, members = await remote.list_folder(folder)
    assert own.path == folder
    assert [member.path for member in members] == [join(folder, name)]
    await remote.move(join(folder, name), join(top, name + "2"))
    await remote.delete(folder)
    assert [member.name for member in (await remote.list_folder(top))[1]] == [name + "2"]


async def test_decomposed_names_are_the_composed_ones(
    remote: WebdavRemote, top: RemotePath, login: Login
) -> None:
    composed = join(top, "é")
    await store(remote, composed, b"1")
    if login.kind in {"standin", "real"}:
        decomposed = RemotePath(unicodedata.normalize("NFD", composed))
        with pytest.raises(AlreadyExists):
            await store(remote, decomposed, b"2")
    assert [member.path for member in (await remote.list_folder(top))[1]] == [composed]


async def test_a_folder_lists_itself_and_its_members(remote: WebdavRemote, top: RemotePath) -> None:
    await remote.make_folder(join(top, "sub"))
    await store(remote, join(top, "sub/inner"), b"inner")
    await store(remote, join(top, "file"), b"four")
    own, members = await remote.list_folder(top)
    assert own.path == top
    assert {member.name: (member.kind, member.version.size) for member in members} == {
        "sub": (Kind.FOLDER, 0),
        "file": (Kind.FILE, 4),
    }
    for member in members:
        assert member.version == (await remote.stat(member.path)).version
        assert bool(member.file_id) == bool(member.permissions) == remote.features.nextcloud


async def test_a_whole_tree(remote: WebdavRemote, top: RemotePath) -> None:
    await remote.make_folder(join(top, "a"))
    await remote.make_folder(join(top, "a/b"))
    await store(remote, join(top, "a/b/c"), b"c")
    await remote.make_folder(join(top, "e"))
    if not remote.features.depth_infinity:
        with pytest.raises(Unsupported):
            await remote.list_tree(top, most=100)
        return
    tree = await remote.list_tree(top, most=100)
    found = {own.path: sorted(member.path for member in members) for own, members in tree}
    a, b, c, e = (join(top, name) for name in ("a", "a/b", "a/b/c", "e"))
    assert found == {top: [a, e], a: [b], b: [c], e: []}
    assert list(found).index(a) < list(found).index(b), "folders come before their members"
    for own, members in tree:
        listed, here = await remote.list_folder(own.path)
        assert (own, {member.path: member for member in members}) == (listed, {it.path: it for it in here})
    with pytest.raises(ProtocolViolation):
        await remote.list_tree(top, most=3)


async def test_the_space_is_told_or_not(remote: WebdavRemote, top: RemotePath) -> None:
    await store(remote, join(top, "file"), b"content")
    space = await remote.space()
    assert space is None or space.used >= 0
    assert not isinstance(space, Space) or space.free >= 0


async def test_what_is_not_there(remote: WebdavRemote, top: RemotePath) -> None:
    missing, version = join(top, "missing"), RemoteVersion("x", 10, 0)
    with pytest.raises(NotFound):
        await remote.stat(missing)
    with pytest.raises(NotFound):
        await remote.list_folder(missing)
    with pytest.raises(NotFound):
        await remote.get_range(missing, 0, 10, version)
    with pytest.raises(NotFound):
        async with remote.stream(missing, 0, 10, version):
            pass
    with pytest.raises(NotFound):
        await remote.delete(missing)
    with pytest.raises(NotFound):
        await remote.move(missing, join(top, "other"))


async def test_where_a_folder_is_missing(remote: WebdavRemote, top: RemotePath) -> None:
    await store(remote, join(top, "file"), b"1")
    nowhere = join(top, "missing/x")
    with pytest.raises(ParentMissing):
        await store(remote, nowhere, b"1")
    with pytest.raises(ParentMissing):
        await remote.make_folder(nowhere)
    with pytest.raises(ParentMissing):
        await remote.move(join(top, "file"), nowhere)
    with pytest.raises(ParentMissing):
        await remote.copy(join(top, "file"), nowhere)


async def test_what_is_in_the_way(remote: WebdavRemote, top: RemotePath) -> None:
    folder, file, other = join(top, "folder"), join(top, "file"), join(top, "other")
    await remote.make_folder(folder)
    await store(remote, join(folder, "precious"), b"1")
    await store(remote, file, b"1")
    await store(remote, other, b"2")
    version = (await remote.stat(file)).version
    with pytest.raises(AlreadyExists):
        await remote.make_folder(folder)
    with pytest.raises(AlreadyExists):
        await remote.make_folder(file)
    with pytest.raises(AlreadyExists):
        await store(remote, file, b"2")
    with pytest.raises(AlreadyExists):
        await store(remote, folder, b"2")
    with pytest.raises(Changed):
        await remote.put(folder, body_of(b"2"), 1, Condition(version))
    for target in (folder, other):
        with pytest.raises(AlreadyExists):
            await remote.move(file, target)
        with pytest.raises(AlreadyExists):
            await remote.move(file, target, expect=version)
        with pytest.raises(AlreadyExists):
            await remote.copy(file, target)
    with pytest.raises(Unsupported):
        await remote.list_folder(file)
    assert [member.name for member in (await remote.list_folder(folder))[1]] == ["precious"]
    assert await remote.get_range(other, 0, 1, (await remote.stat(other)).version) == b"2"


async def test_only_the_version_that_was_meant_is_replaced(remote: WebdavRemote, top: RemotePath) -> None:
    # Within one second Nextcloud's ETag changes with the modification time only: hence two of these.
    path = join(top, "file")
    await remote.put(path, body_of(b"one"), 3, Condition(absent=True), mtime_s=1_500_000_000)
    first = (await remote.stat(path)).version
    stored = await remote.put(path, body_of(b"second"), 6, Condition(first), mtime_s=1_500_000_001)
    second = (await remote.stat(path)).version
    assert stored.etag == second.etag != first.etag
    with pytest.raises(Changed):
        await remote.put(path, body_of(b"third"), 5, Condition(first))
    with pytest.raises(Changed):
        await remote.put(join(top, "gone"), body_of(b"third"), 5, Condition(first))
    with pytest.raises(Changed):
        await remote.get_range(path, 0, 3, first)
    with pytest.raises(Changed):
        await remote.delete(path, expect=first)
    with pytest.raises(Changed):
        await remote.move(path, join(top, "moved"), expect=first)
    assert await remote.get_range(path, 0, 6, second) == b"second"
    assert not [member for member in (await remote.list_folder(top))[1] if member.name != "file"]
    await remote.move(path, join(top, "moved"), expect=second)
    await remote.delete(join(top, "moved"), expect=second)
    assert (await remote.list_folder(top))[1] == []


async def test_an_old_etag_still_matches(remote: WebdavRemote, top: RemotePath, login: Login) -> None:
    """Apache's ETags are weak for a second and strong later: the same in the form that we keep."""
    path = join(top, "file")
    await store(remote, path, b"one")
    version = (await remote.stat(path)).version
    if login.kind == "apache":
        await trio.sleep(2.2)
    assert version == (await remote.stat(path)).version
    assert await remote.get_range(path, 0, 3, version) == b"one"
    await remote.put(path, body_of(b"four"), 4, Condition(version))


async def test_the_same_size_is_not_the_same_version(remote: WebdavRemote, top: RemotePath) -> None:
    path = join(top, "file")
    await store(remote, path, b"one")
    version = (await remote.stat(path)).version
    other = msgspec.structs.replace(version, etag="another")
    with pytest.raises(Changed):
        await remote.get_range(path, 0, 3, other)
    with pytest.raises(Changed):
        await remote.put(path, body_of(b"two"), 3, Condition(other))


async def test_moves_and_copies(remote: WebdavRemote, top: RemotePath) -> None:
    await remote.make_folder(join(top, "from"))
    await store(remote, join(top, "from/file"), b"data")
    before = await remote.stat(join(top, "from/file"))
    stored = await remote.move(join(top, "from/file"), join(top, "file"))
    after = await remote.stat(join(top, "file"))
    assert (stored.etag, stored.file_id) == (after.version.etag, after.file_id)
    assert before.file_id == after.file_id
    copied = await remote.copy(join(top, "file"), join(top, "copy"))
    assert (
        await remote.get_range(join(top, "copy"), 0, 4, (await remote.stat(join(top, "copy"))).version)
        == b"data"
    )
    assert copied.file_id is None or copied.file_id != after.file_id
    await remote.move(join(top, "from"), join(top, "to"))
    assert {member.name for member in (await remote.list_folder(top))[1]} == {"file", "copy", "to"}


async def test_times(remote: WebdavRemote, top: RemotePath) -> None:
    made = await remote.make_folder(join(top, "folder"), mtime_s=1_400_000_000)
    folder = await remote.stat(join(top, "folder"))
    assert made.mtime_kept == (folder.version.modified_s == 1_400_000_000)
    await store(remote, join(top, "file"), b"1")
    before = (await remote.stat(join(top, "file"))).version
    for mtime_s in (1_300_000_000, 1_300_000_000, 0):
        taken_s = await remote.set_mtime(join(top, "file"), mtime_s)
        assert (taken_s is not None) == remote.features.sets_mtime
        if taken_s is not None:
            assert (await remote.stat(join(top, "file"))).version.modified_s == taken_s
            assert taken_s == (mtime_s or 86401)
            with pytest.raises(Changed):
                await remote.set_mtime(join(top, "file"), 1_400_000_000, expect=before)


async def test_another_time_drops_the_checksum(remote: WebdavRemote, top: RemotePath) -> None:
    if not remote.features.checksums:
        pytest.skip("only where there are any")
    path, checksum = join(top, "file"), "SHA1:" + hashlib.sha1(b"1", usedforsecurity=False).hexdigest()
    await remote.put(path, body_of(b"1"), 1, Condition(absent=True), mtime_s=1_500_000_000, checksum=checksum)
    await remote.set_mtime(path, 1_500_000_000)
    assert (await remote.stat(path)).version.checksum == checksum
    await remote.set_mtime(path, 1_500_000_001)
    assert (await remote.stat(path)).version.checksum is None


@pytest.mark.parametrize("mtime_s", [0, -1, 86400, 2**33])
async def test_odd_times_do_no_harm(remote: WebdavRemote, top: RemotePath, mtime_s: int) -> None:
    path = join(top, "file")
    stored = await remote.put(path, body_of(b"1"), 1, Condition(absent=True), mtime_s=mtime_s)
    assert stored.mtime_kept == ((await remote.stat(path)).version.modified_s == mtime_s)
    if mtime_s <= 86400:
        assert not stored.mtime_kept


async def test_a_body_of_another_size_is_not_stored(
    remote: WebdavRemote, top: RemotePath, login: Login
) -> None:
    for size in (9, 11):
        with pytest.raises(LocalDamage):
            await remote.put(join(top, f"file{size}"), body_of(b"0123456789"), size, Condition(absent=True))
    if login.kind in {"rclone", "wsgidav"}:
        return  # they keep what came of a cut upload (protocol.md §15.2)
    assert (await remote.list_folder(top))[1] == []


async def test_an_upload_of_many_pieces(remote: WebdavRemote, top: RemotePath) -> None:
    data = os.urandom(3_000_000)
    await remote.put(join(top, "file"), body_of(data, 10_007), len(data), Condition(absent=True))
    version = (await remote.stat(join(top, "file"))).version
    assert await remote.get_range(join(top, "file"), 0, len(data), version) == data


async def test_streams_can_be_left_early(remote: WebdavRemote, top: RemotePath) -> None:
    """Leaving closes the connection, which frees the server's read lock; the remote works on."""
    data = os.urandom(3_000_000)
    path = join(top, "file")
    await store(remote, path, data)
    version = (await remote.stat(path)).version
    for _ in range(10):  # more than there are slots
        async with remote.stream(path, 10, len(data), version) as chunks:
            assert (await anext(chunks))[:100] == data[10:110]
    with trio.fail_after(30):
        while not await _put_if_free(remote, path, version):
            await trio.sleep(0.05)  # until the server has noticed


async def _put_if_free(remote: WebdavRemote, path: RemotePath, version: RemoteVersion) -> bool:
    try:
        await remote.put(path, body_of(b"new"), 3, Condition(version))
    except Locked:
        return False
    return True


async def test_many_at_once(remote: WebdavRemote, top: RemotePath) -> None:
    async def one(number: int) -> None:
        path = join(top, f"file {number}")
        await store(remote, path, b"x" * number)
        assert (await remote.stat(path)).version.size == number

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, number)
    assert len((await remote.list_folder(top))[1]) == 12


async def test_what_moved_is_found_by_its_file_id(remote: WebdavRemote, top: RemotePath) -> None:
    source, target = join(top, "from/a"), join(top, "to & #1/ünï %41")
    await remote.make_folder(join(top, "from"))
    await remote.make_folder(join(top, "to & #1"))
    stored = await store(remote, source, b"content")
    file_id = stored.file_id or "1"
    found = [source] if remote.features.nextcloud else []
    assert list(await remote.find(file_id)) == found
    await remote.move(source, target)
    assert list(await remote.find(file_id)) == ([target] if found else [])
    await remote.delete(target)
    assert list(await remote.find(file_id)) == []
