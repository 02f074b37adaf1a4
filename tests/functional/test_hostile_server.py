"""A server that means harm, seen through a real mount: an error for whoever asks, and all else goes on.

What the single parsers make of hostile replies is tested beside them (tests/remote); here it is shown that nothing gets
through: no name that leads elsewhere, no file outside, no memory, no mount that hangs or ends.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.stages import USER, MountStage
from tests.servers import StandIn
from tests.servers.standin.faults import Action, Answer, WrongLength

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MIB = 1 << 20
EVIL = "evil\x1b]0;title\x07\x1b[2J\rhidden"
XML = {"Content-Type": "application/xml; charset=utf-8"}
NAMESPACES = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"'
_FOLDERS, _FILES = 60, 20
_folders, _files = iter(range(_FOLDERS)), iter(range(_FILES))
"""Each is used by one test alone: nobody has looked into it."""


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        there = standin.account(USER)
        there.mkdir("/good")
        there.write("/good/file", b"good")
        there.mkdir("/named")
        there.write(f"/named/{EVIL}", b"x")
        for number in range(_FOLDERS):
            there.mkdir(f"/folder-{number}")
            there.mkdir(f"/folder-{number}/within")
        for number in range(_FILES):
            there.write(f"/good/content-{number}", b"true")
        # Or the empty folders would be known before anybody looks into them.
        standin.faults.add(
            Answer(403), predicate=lambda it: it.headers.get("depth") == "infinity", times=None
        )
        yield standin


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside everything of the mount's, which nothing may touch."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "file").write_text("canary")
    return folder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path_factory.mktemp("hostile") / "home", server)
    made.cloudfs("pause")  # nothing comes ahead of whoever asks
    yield made
    made.close()


def entry(href: str, *, folder: bool = False, etag: str = "&quot;e&quot;", number: int = 77_000) -> str:
    kind = "<d:collection/>" if folder else ""
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
        f"<d:getcontentlength>4</d:getcontentlength><d:getetag>{etag}</d:getetag>"
        f"<oc:fileid>{number}</oc:fileid><oc:permissions>RGDNVW</oc:permissions>"
        "<d:getlastmodified>Sun, 13 Sep 2020 12:26:40 GMT</d:getlastmodified></d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


class Folder(str):
    """The href of a folder; with its file id, or it would be taken for another one."""

    __slots__ = ("file_id",)
    file_id: int


def listing(own: Folder, *members: str) -> bytes:
    head = f'<?xml version="1.0"?><d:multistatus {NAMESPACES}>'
    return (
        head + entry(own, folder=True, number=own.file_id) + "".join(members) + "</d:multistatus>"
    ).encode()


def members(*hrefs: str) -> str:
    """Stand for a listing of the folder with these members; `{own}` is the folder's own href."""
    return "".join(entry(href, number=77_000 + number) for number, href in enumerate(hrefs))


refuses_listings = pytest.mark.expect_log(r"WARNING cloudfs\.fuse\.boundary: opendir failed: ", optional=True)
leaves_names_out = pytest.mark.expect_log(
    r": 1 of its members cannot be shown here because of their names", optional=True
)

BOMB = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
OUTSIDE = "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"


@pytest.mark.parametrize(
    "given",
    [
        "{own}../../../../etc/passwd",
        "{own}%2e%2e/%2e%2e/up",
        "{own}..%2f..%2fup",
        "{own}a%2fb",
        "{own}a%00b",
        "/etc/passwd",
        "http://127.0.0.1:9/remote.php/dav/files/x/elsewhere",
        "//evil.example.org/x",
        "file:///etc/passwd",
        "{own}deeper/still/deeper",
        "{own}",
        "",
    ],
)
@refuses_listings
@leaves_names_out
def test_hrefs_that_lead_elsewhere(stage: MountStage, server: StandIn, canary: Path, given: str) -> None:
    """Refused, or left out: the honest member is all that may show."""
    own = new_folder(stage)
    body = listing(own, members(own + "honest", given.replace("{own}", own)))
    assert listed(stage, server, own, Answer(207, body, XML)) in (None, ["honest"])
    unharmed(stage, canary)


@pytest.mark.parametrize("given", ["twice", "long", "spelled twice", "with a control character"])
@refuses_listings
@leaves_names_out
def test_names_that_cannot_be(stage: MountStage, server: StandIn, canary: Path, given: str) -> None:
    own = new_folder(stage)
    odd = {
        "twice": (own + "a", own + "a"),
        "long": (own + "n" * 10_000,),
        "spelled twice": (own + "%61", own + "a"),
        "with a control character": (own + "a%07%1b[2Jb",),
    }[given]
    found = listed(stage, server, own, Answer(207, listing(own, members(*odd)), XML))
    assert found in (None, []) or (given.endswith("character") and found == ["a\x07\x1b[2Jb"])
    unharmed(stage, canary)


def test_a_folder_within_itself(stage: MountStage, server: StandIn, canary: Path) -> None:
    """The same file id below itself: shown, or refused, but no walk without end."""
    own = new_folder(stage)
    below = listing(own, entry(own + "loop/", folder=True, number=own.file_id))
    assert listed(stage, server, own, Answer(207, below, XML)) in (None, [], ["loop"])
    unharmed(stage, canary)


@pytest.mark.parametrize(
    "body",
    [
        f"<?xml version='1.0'?>{BOMB}<d:multistatus {NAMESPACES}><d:response><d:href>&b;</d:href></d:response>",
        f"<?xml version='1.0'?>{OUTSIDE}<d:multistatus {NAMESPACES}><d:response><d:href>&a;</d:href></d:response>",
        "<?xml version='1.0' encoding='utf-16'?><a/>",
        "<?xml version='1.0' encoding='utf-7'?>+ADw-a/+AD4-",
        "<?xml version='1.0'?><?xml-stylesheet href='http://evil.example.org/'?><html/>",
        "<" * 100_000,
        "<a>" * 100_000,
        "<d:multistatus xmlns:d='DAV:'>" + " " * (3 * MIB),
    ],
    ids=["bomb", "outside", "utf-16", "utf-7", "stylesheet", "brackets", "deep", "blanks"],
)
@refuses_listings
def test_xml_that_means_harm(stage: MountStage, server: StandIn, canary: Path, body: str) -> None:
    own = new_folder(stage)
    assert listed(stage, server, own, Answer(207, body.encode(), XML)) is None
    unharmed(stage, canary)


@pytest.mark.parametrize("kind", ["blanks", "files"])
@refuses_listings
def test_a_small_reply_that_becomes_large(
    stage: MountStage, server: StandIn, canary: Path, kind: str
) -> None:
    """200 MiB in 200 KiB, and 12 MB of members in 100 KB: neither is ever in memory as a whole."""
    own = new_folder(stage)
    if kind == "blanks":
        large = b"<d:multistatus xmlns:d='DAV:'>" + b" " * (200 * MIB)
    else:
        one = entry(own + "a{:08d}", number=1)
        large = listing(own, *(one.replace("{:08d}", f"{number:08d}") for number in range(25_000)))[:-20]
    packed = gzip.compress(large, 1)
    assert listed(stage, server, own, Answer(207, packed, {**XML, "Content-Encoding": "gzip"})) is None
    unharmed(stage, canary)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "compress"])
@refuses_listings
def test_encodings_that_nobody_asked_for(
    stage: MountStage, server: StandIn, canary: Path, encoding: str
) -> None:
    own = new_folder(stage)
    body = gzip.compress(gzip.compress(listing(own, members(own + "x"))))
    assert listed(stage, server, own, Answer(207, body, {**XML, "Content-Encoding": encoding})) is None
    unharmed(stage, canary)


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:9/", "https://evil.example.org/", "file:///etc/passwd", "{own}"]
)
@refuses_listings
def test_redirects(stage: MountStage, server: StandIn, canary: Path, to: str) -> None:
    """Elsewhere, or in a circle."""
    own = new_folder(stage)
    answer = Answer(302, headers={"Location": to.replace("{own}", own)})
    assert listed(stage, server, own, answer) is None
    unharmed(stage, canary)


@pytest.mark.parametrize(
    "action",
    [
        Answer(206, b"evil", {"Content-Range": "bytes 0-3/99999999"}),
        Answer(206, b"evil", {"Content-Range": "bytes 100-103/104"}),
        Answer(206, b"evil"),
        Answer(200, b"evil" * MIB, {"ETag": '"other"'}),
        Answer(200, b"evil", {"ETag": '"a\x1b[2J"', "OC-ETag": '"a\x1b[2J"'}),
        WrongLength(+1000),
        WrongLength(-2),
        Answer(416),
        Answer(204),
        Answer(302, headers={"Location": "http://127.0.0.1:9/"}),
    ],
    ids=["size", "place", "no place", "version", "controls", "long", "short", "416", "204", "redirect"],
)
@pytest.mark.expect_log(r"WARNING cloudfs\.fuse\.boundary: read failed: /good/content-\d+: ", optional=True)
def test_contents_that_lie(stage: MountStage, server: StandIn, canary: Path, action: Action) -> None:
    """No byte of them is given to a program; the true ones are, once the server tells the truth."""
    name = f"content-{next(_files)}"
    path = stage.mount_point / "good" / name
    rule = server.faults.add(action, method="GET", path=f"/{name}$", times=None)
    with pytest.raises(OSError, match=r"\[Errno"):
        path.read_bytes()
    server.faults.remove(rule)
    assert path.read_bytes() == b"true"
    unharmed(stage, canary)


ENDLESS = 999_999_999_999_999_999


@pytest.mark.expect_log(r"WARNING cloudfs\.fuse\.boundary: \w+ failed: ", optional=True)
def test_files_that_are_said_to_have_a_million_terabytes(
    stage: MountStage, server: StandIn, canary: Path
) -> None:
    """Nothing goes through all their blocks, nor do their sizes add up to more than can be counted."""
    own = new_folder(stage)
    size, checksum = f"<d:getcontentlength>{ENDLESS}<", f"<oc:checksums><oc:checksum>SHA1:{'0' * 40}"
    names = [f"f{number}" for number in range(20)]
    members_ = "".join(entry(own + name, number=78_000 + at) for at, name in enumerate(names))
    members_ = members_.replace("<d:getcontentlength>4<", size)
    members_ = members_.replace("<d:getlast", f"{checksum}</oc:checksum></oc:checksums><d:getlast")
    assert listed(stage, server, own, Answer(207, listing(own, members_), XML)) == sorted(names)
    place = stage.mount_point / own.partition(f"/{USER}/")[2]
    part = {
        "Content-Range": f"bytes 0-{MIB - 1}/{ENDLESS}",
        "ETag": '"e"',
        "Last-Modified": "Sun, 13 Sep 2020 12:26:40 GMT",
        "OC-Checksum": f"SHA1:{'0' * 40}",
    }
    rule = server.faults.add(Answer(206, b"x" * MIB, part), method="GET", path="/f0$", times=None)
    descriptor = os.open(place / "f0", os.O_RDONLY)
    assert os.pread(descriptor, 10, 0) == b"x" * 10
    os.close(descriptor)
    server.faults.remove(rule)
    for name in names[1:]:
        with (place / name).open("r+b") as file:
            file.write(b"changed")
    assert stage.status()["pending_bytes"] == pytest.approx(19 * ENDLESS)
    assert json.loads(stage.cloudfs("info", "--json", str(place / "f0")).stdout)["file"]["size"] == ENDLESS
    assert "not as it should be" not in stage.cloudfs("cache", "verify").stderr
    stage.cloudfs("pin", str(place))
    stage.cloudfs("pin")
    stage.cloudfs("unpin", str(place))
    unharmed(stage, canary)


def test_no_command_steers_the_terminal(stage: MountStage) -> None:
    """With a name that sets the window's title, clears the screen, and returns to the start of the line."""
    place = stage.mount_point / "named"
    assert os.listdir(place) == [EVIL]
    for words in (
        ("ls", place),
        ("info", place / EVIL),
        ("pin", place / EVIL),
        ("pin",),
        ("status",),
        ("unpin", place / EVIL),
        ("sync", "--wait", place / EVIL),
        ("conflicts", "keep-mine", place / EVIL),
        ("log",),
    ):
        shown = on_a_terminal(stage, *map(str, words))
        assert b"evil" in shown or words in {("status",), ("log",)}, words
        assert not any(it in shown for it in (b"\x1b]", b"\x07", b"\x1b[2J", b"\rhidden")), words


def on_a_terminal(stage: MountStage, *words: str) -> bytes:
    """Run a command there, to its end; return what is shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        stage.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=stage.environ
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: it has ended
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    process.wait(60)
    return shown


def new_folder(stage: MountStage) -> Folder:
    """Return a folder that nobody has looked into."""
    name = f"folder-{next(_folders)}/within"
    folder = Folder(f"/remote.php/dav/files/{USER}/{name}/")
    told = json.loads(stage.cloudfs("info", "--json", str(stage.mount_point / name)).stdout)
    folder.file_id = int(told["file_id"])
    return folder


def listed(stage: MountStage, server: StandIn, own: str, action: Action) -> list[str] | None:
    """List the folder while the server answers so; None: that was an error, and is none any more afterwards."""
    place = stage.mount_point / own.partition(f"/{USER}/")[2]
    rule = server.faults.add(action, method="PROPFIND", path=own.rstrip("/") + "/?$", times=None)
    try:
        return sorted(os.listdir(place))
    except OSError:
        server.faults.remove(rule)
        stage.wait(lambda: is_empty(place))
        return None
    finally:
        server.faults.remove(rule)


def is_empty(place: Path) -> bool:
    try:
        return not os.listdir(place)
    except OSError:
        return False  # the hostile answer was still on its way


def unharmed(stage: MountStage, canary: Path) -> None:
    """The mount answers, its memory is small, and nothing was made or read elsewhere."""
    assert (stage.mount_point / "good/file").read_bytes() == b"good"
    status = stage.status()
    lines = Path(f"/proc/{status['pid']}/status").read_text().splitlines()
    most_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert most_kib < 250 * 1024
    assert {path.name for path in canary.parent.iterdir()} >= {canary.name}
    assert [path.name for path in canary.iterdir()] == ["file"]
    assert (canary / "file").read_text() == "canary"
