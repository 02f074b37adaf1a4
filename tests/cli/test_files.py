"""`cloudfs ls` and `cloudfs info` over a mount of a real engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import Answer, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        there = standin.account(USER)
        there.mkdir("/docs")
        there.write("/docs/unread", b"never read")
        there.write("/docs/read", b"read")
        there.write("/docs/large", os.urandom(40 * MIB))
        there.mkdir("/docs/folder")
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[MountStage]:
    home = tmp_path_factory.mktemp("files") / "home"
    made = MountStage(home, server)
    yield made
    made.close()


def listed(stage: MountStage, *paths: str) -> dict[str, dict[str, Any]]:
    done = stage.cloudfs("ls", "--json", *(str(stage.mount_point / path) for path in paths))
    return {line["path"]: line for line in json.loads(done.stdout)}


def info(stage: MountStage, path: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(stage.cloudfs("info", "--json", str(stage.mount_point / path)).stdout)
    return told


def test_a_folder_that_nobody_has_looked_into(stage: MountStage) -> None:
    found = listed(stage, "docs")
    assert sorted(found) == ["/docs/folder", "/docs/large", "/docs/read", "/docs/unread"]
    assert {line["state"] for line in found.values()} == {"synced"}
    assert found["/docs/unread"]["here"] == "none"
    assert (found["/docs/unread"]["size"], found["/docs/unread"]["here_bytes"]) == (10, 0)
    assert found["/docs/folder"]["kind"] == "folder"
    text = stage.cloudfs("ls", str(stage.mount_point / "docs")).stdout
    assert "synced    on the server   10 bytes  unread\n" in text
    assert "folder/\n" in text


def test_how_much_of_a_file_is_here(stage: MountStage) -> None:
    (stage.mount_point / "docs/read").read_bytes()
    with (stage.mount_point / "docs/large").open("rb") as file:
        assert len(file.read(3 * MIB)) == 3 * MIB
        stage.wait(lambda: listed(stage, "docs/large")["/docs/large"]["here"] == "part")
    assert listed(stage, "docs/read")["/docs/read"]["here"] == "all"
    read = info(stage, "docs/read")
    program = Path("/proc/self/comm").read_text().strip()
    assert read["brought_by"] == program
    assert read["brought_at"]
    assert read["why"][-1] == f"Its content is here: {program} was the first to read it."
    stage.cloudfs("pin", str(stage.mount_point / "docs/read"))
    assert "docs/read is pinned" in info(stage, "docs/read")["why"][-1]
    stage.cloudfs("unpin", str(stage.mount_point / "docs/read"))


def test_everything_that_is_known(stage: MountStage) -> None:
    told = info(stage, "docs/unread")
    assert told["file"]["path"] == told["server_path"] == "/docs/unread"
    assert told["inode"] == (stage.mount_point / "docs/unread").stat().st_ino
    assert told["file_id"]
    assert told["etag"]
    assert told["why"] == [
        "The server has it as it is here.",
        "Nothing of its content is here: no program has read it lately.",
    ]
    text = stage.cloudfs("info", str(stage.mount_point / "docs/unread")).stdout
    assert f"  etag        {told['etag']}\n" in text
    folder = info(stage, "docs")
    assert (folder["members"], folder["file"]["kind"]) == (4, "folder")
    assert folder["listed_at"]


def test_what_is_attached_on_the_server(stage: MountStage, server: StandIn) -> None:
    there = server.account(USER)
    there.set_favorite("/docs/unread")
    there.annotate("/docs/unread", system_tags=["to do"], sharees=[("bob", 0), ("", 3)], comments=2)
    attached = info(stage, "docs/unread")["annotations"]
    assert (attached["told"], attached["favorite"], attached["tags"]) == (True, True, ["to do"])
    text = stage.cloudfs("info", str(stage.mount_point / "docs/unread")).stdout
    assert "  favourite   yes\n" in text
    assert "  shared with bob, a link\n" in text
    refusal = server.faults.add(Answer(403), method="PROPFIND", path="/unread$", times=None)
    text = stage.cloudfs("info", str(stage.mount_point / "docs/unread")).stdout
    server.faults.remove(refusal)
    assert "  attached    not known: " in text


def test_what_is_not_sent_yet(stage: MountStage, server: StandIn) -> None:
    refusal = server.faults.add(Answer(403), method="PUT", path="/refused$", times=None)
    stage.cloudfs("pause")
    try:
        (stage.mount_point / "new").write_bytes(b"new")
        (stage.mount_point / "new~").write_bytes(b"backup")
        (stage.mount_point / "docs/read").rename(stage.mount_point / "docs/moved")
        assert listed(stage, "new")["/new"]["state"] == "pending"
        assert listed(stage, "new~")["/new~"]["state"] == "local"
        new = info(stage, "new")
        assert new["why"] == [
            "It is new, and the server has yet to get it.",
            "Sending is paused: `cloudfs resume` lets it go on.",
            "What was written here is kept until the server has it.",
        ]
        assert (new["server_path"], new["staged_bytes"]) == (None, 3)
        assert info(stage, "docs/moved")["why"][0].startswith("It was moved or renamed here")
        (stage.mount_point / "refused").write_bytes(b"refused")
    finally:
        stage.cloudfs("resume")
    assert stage.cloudfs("sync", "--wait", check=False).returncode == ExitCode.PENDING
    refused = info(stage, "refused")
    assert refused["file"]["state"] == "blocked"
    assert "ask the owner" in refused["next_step"]
    server.faults.remove(refusal)
    stage.sync()
    assert info(stage, "refused")["reason"] == ""


def test_mistakes(stage: MountStage, tmp_path: Path) -> None:
    for command in ("ls", "info"):
        done = stage.cloudfs(command, str(tmp_path), check=False)
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            ExitCode.NOT_MOUNTED,
            f"{tmp_path} is in no mounted account.",
        )
        absent = str(stage.mount_point / "absent")
        done = stage.cloudfs(command, absent, check=False)
        assert (done.returncode, done.stderr.splitlines()[0]) == (ExitCode.USAGE, f"{absent} does not exist.")


def test_what_was_done_is_in_the_log_and_who_read_what_survives_an_unmount(stage: MountStage) -> None:
    program = Path("/proc/self/comm").read_text().strip()
    (stage.mount_point / "docs/sent").write_bytes(b"sent")
    stage.sync()
    stage.cloudfs("unmount", "--wait", str(stage.mount_point))
    stage.mount()
    assert info(stage, "docs/large")["brought_by"] == program
    told = [json.loads(line) for line in stage.cloudfs("log", "--json", "-n", "1000").stdout.splitlines()]
    said = [line["message"] for line in told if line["logger"] == "cloudfs.sync.news"]
    assert "/docs/sent is on the server (4 bytes)" in said
    assert any(line.startswith(f"{program} reads ") for line in said)
