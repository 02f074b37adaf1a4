"""One mount for all programs, each in a folder of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.stages import USER, MountStage
from tests.servers import StandIn

Run = Callable[..., str]


@pytest.fixture(scope="package")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path_factory.mktemp("programs") / "home", server)
    yield made
    made.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, stage: MountStage, server: StandIn) -> Iterator[Path]:
    """A folder in the mount; after the test the server must have exactly what the folder shows."""
    folder = stage.mount_point / request.node.name
    folder.mkdir()
    yield folder
    stage.sync()
    assert server.account(USER).tree(f"/{folder.name}") == contents(folder)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Read everything below a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


@pytest.fixture
def run() -> Run:
    """Run a command in a folder; it must succeed. Returns what it printed."""

    def run(*command: object, at: Path) -> str:
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/bin",
            "HOME": str(at),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "x",
            "GIT_AUTHOR_EMAIL": "x@example.org",
            "GIT_COMMITTER_NAME": "x",
            "GIT_COMMITTER_EMAIL": "x@example.org",
        }
        words = [str(word) for word in command]
        done = subprocess.run(
            words, check=False, cwd=at, env=environ, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    return run
