"""Rules of a server: what it refuses is told in its own words, with what can be done, kept, and sent once it may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage
from tests.servers import Answer, StandIn

pytestmark = pytest.mark.shared_engine

_OWNER = (
    "ask the owner of the folder, or the server's administrator, for permission, or move the file elsewhere"
)
_OBJECTS = (
    "look at the file, which the server's virus scanner or its rules object to, and change or remove it"
)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path_factory.mktemp("policies"), server)
    write(made.root(), "old", b"old")
    made.sync()
    yield made
    made.close()


def says(status: int, exception: str, message: str, more: str = "") -> Answer:
    """Answer as Sabre does (protocol.md §13)."""
    body = f"<s:exception>{exception}</s:exception><s:message>{message}</s:message>{more}"
    names = 'xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:o="http://owncloud.org/ns"'
    return Answer(status, f"<d:error {names}>{body}</d:error>".encode(), {"Content-Type": "application/xml"})


SHARE = says(
    403, "Sabre\\DAV\\Exception\\Forbidden", "Uploading here is against the sharing policy of Example Ltd"
)
QUOTA = says(
    507, "Sabre\\DAV\\Exception\\InsufficientStorage", "Insufficient space in /f, 3 required, 0 available"
)
NAME = says(400, "OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath", "Filenames must not end with “.f”.")
RULE = says(
    403,
    "OCA\\DAV\\Connector\\Sabre\\Exception\\Forbidden",
    "Access denied by the rule “no programs”",
    "<o:retry>true</o:retry>",
)
VIRUS = says(
    415,
    "OCA\\DAV\\Connector\\Sabre\\Exception\\UnsupportedMediaType",
    "Virus Win.Test.EICAR_HDB-1 is detected in the file. Upload cannot be completed.",
)


CASES = {
    "share": (SHARE, "Uploading here is against the sharing policy of Example Ltd", _OWNER),
    "quota": (
        QUOTA,
        "Insufficient space in /f, 3 required, 0 available",
        "free space in the account, or ask its administrator for more",
    ),
    "name": (NAME, "Filenames must not end with “.f”.", "rename the file"),
    "rule": (RULE, "Access denied by the rule “no programs”", _OWNER),
    "kind of file": (
        VIRUS,
        "Virus Win.Test.EICAR_HDB-1 is detected in the file. Upload cannot be completed.",
        _OBJECTS,
    ),
}


@pytest.mark.parametrize(
    ("method", "case"),
    [
        (method, case)
        for method in ("PUT", "MKCOL", "MOVE")
        for case in CASES
        if (method, case) != ("MKCOL", "kind of file")
    ],
)
@pytest.mark.expect_log("not sent yet", optional=True)
def test_a_refusal_is_told_in_the_servers_words(
    stage: VfsStage, server: StandIn, method: str, case: str
) -> None:
    answer, words, step = CASES[case]
    root = stage.root()
    rule = server.faults.add(answer, method=method, times=None)
    match method:
        case "PUT":
            write(root, "f", b"new")
        case "MKCOL":
            root.mkdir("f")
        case _:
            root.rename("old", "f")
    (trouble,) = stage.send()
    assert f"(it says: {words})" in trouble.reason
    assert (trouble.next_step, trouble.blocked) == (step, True)
    server.faults.remove(rule)
    stage.sync()
    there = server.account(USER).tree()
    assert "f" in there
    match method:
        case "PUT":
            assert there["f"] == b"new"
            root.unlink("f")
        case "MKCOL":
            root.rmdir("f")
        case _:
            root.rename("f", "old")
    stage.sync()
