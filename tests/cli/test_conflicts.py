"""`cloudfs conflicts` over a real mount."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import Account, Hold, LoseReply, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

OLD = 1_600_000_000
NAMES = ("one.txt", "two.txt", "three.txt")


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def there(server: StandIn) -> Account:
    return server.account(USER)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn, there: Account) -> Iterator[MountStage]:
    """A mount with three conflicts."""
    for name in NAMES:
        there.write(f"/{name}", b"base", mtime=OLD)
    made = MountStage(
        tmp_path_factory.mktemp("conflicts") / "home", server, settings="quiet_s = 3600\nlisting_ttl_s = 0"
    )
    for name in NAMES:
        (made.mount_point / name).write_bytes(b"ours")
        there.write(f"/{name}", b"theirs", mtime=OLD + 100)
    made.sync()
    yield made
    made.close()


def listed(stage: MountStage) -> list[dict[str, object]]:
    answer = json.loads(stage.cloudfs("conflicts", "--json").stdout)
    assert isinstance(answer, list)
    return answer


def test_a_whole_life(stage: MountStage, there: Account) -> None:
    root = stage.mount_point
    stage.wait(lambda: {item.name for item in root.iterdir()} >= set(NAMES))
    found = listed(stage)
    assert {item["path"] for item in found} == {f"/{name}" for name in NAMES}
    assert {(item["size"], item["copy_size"]) for item in found} == {(6, 4)}
    copies = {str(item["path"]): root / str(item["copy"])[1:] for item in found}
    assert {path.read_bytes() for path in copies.values()} == {b"ours"}
    said = stage.cloudfs("conflicts", "list", str(root)).stdout
    for words in ((), ("a",), (str(root),), ("list",), ("list", "a")):
        assert stage.cloudfs("conflicts", *words).stdout == said
    for more in (("--json", "a"), ("a", "--json"), ("list", str(root), "--json")):
        assert json.loads(stage.cloudfs("conflicts", *more).stdout) == found
    assert "keep-theirs" in stage.cloudfs("conflicts", "--help").stdout
    assert f"{root}/one.txt\n" in said
    assert copies["/one.txt"].name in said
    assert stage.status()["conflicts"] == 3

    assert "your version" in stage.cloudfs("conflicts", "keep-mine", str(root / "one.txt")).stdout
    stage.cloudfs("conflicts", "keep-theirs", str(copies["/two.txt"]))
    stage.cloudfs("conflicts", "keep-both", str(root / "three.txt"))
    assert (root / "one.txt").read_bytes() == b"ours"
    assert not copies["/one.txt"].exists()
    assert not copies["/two.txt"].exists()
    assert copies["/three.txt"].read_bytes() == b"ours"
    stage.sync()
    assert there.tree() == {
        "one.txt": b"ours",
        "two.txt": b"theirs",
        "three.txt": b"theirs",
        copies["/three.txt"].name: b"ours",
    }
    assert listed(stage) == []
    assert stage.cloudfs("conflicts").stdout == "There are no conflicts.\n"


def test_mistakes_are_sentences(stage: MountStage, tmp_path: Path) -> None:
    done = stage.cloudfs("conflicts", "keep-mine", str(stage.mount_point / "two.txt"), check=False)
    assert done.returncode == ExitCode.NOT_DONE
    assert done.stderr.startswith("/two.txt is in no conflict.\n")
    done = stage.cloudfs(
        "conflicts",
        "keep-both",
        str(stage.mount_point / "two.txt"),
        str(stage.mount_point / "absent"),
        check=False,
    )
    assert done.returncode == ExitCode.NOT_DONE
    assert done.stderr.startswith("2 of 2 could not be done.\n")
    assert stage.cloudfs("conflicts", "keep-mine", check=False).returncode == ExitCode.USAGE
    assert stage.cloudfs("conflicts", "list", str(tmp_path), check=False).returncode == ExitCode.NOT_MOUNTED


@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_killed_in_the_middle_both_are_there(stage: MountStage, there: Account, server: StandIn) -> None:
    """The request is under way when the daemon dies; the server carries it out, or does not."""
    path = stage.mount_point / "killed.txt"
    for executed in (False, True):
        base = b"base %d" % executed
        path.write_bytes(base)
        stage.sync()
        path.write_bytes(b"ours %d" % executed)
        there.write("/killed.txt", b"theirs %d" % executed, mtime=OLD + 200 + executed)
        stage.sync()
        stage.wait(lambda: path.read_bytes().startswith(b"theirs"))
        (item,) = [item for item in listed(stage) if item["path"] == "/killed.txt"]
        copy = stage.mount_point / str(item["copy"])[1:]
        rule = server.faults.add(LoseReply() if executed else Hold(), method="PUT", path=r"/killed\.txt$")
        command = [sys.executable, "-m", "cloudfs.cli.main", "conflicts", "keep-mine", str(path)]
        with subprocess.Popen(command, env=stage.environ, stderr=subprocess.PIPE) as deciding:
            assert rule.wait_hit()
            stage.kill()
            deciding.communicate(timeout=30)
        rule.release()
        stage.mount()
        assert copy.read_bytes() == b"ours %d" % executed
        assert there.read(f"/{copy.name}") == b"ours %d" % executed
        stage.wait(lambda: path.read_bytes() == there.read("/killed.txt"))
        stage.cloudfs("conflicts", "keep-mine", str(path))
        stage.sync()
        assert there.read("/killed.txt") == b"ours %d" % executed
        assert not there.exists(f"/{copy.name}")
