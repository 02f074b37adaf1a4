"""One mount of each server for all programs, each in a folder of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.functional.sites import Site, StandInSite, real_site
from tests.functional.stages import MountStage
from tests.servers import StandIn

Run = Callable[..., str]


@contextmanager
def _stand_in() -> Iterator[StandInSite]:
    with StandIn() as server:
        yield StandInSite(server)


_SITES: dict[str, Callable[[], AbstractContextManager[Site]]] = {
    "standin": _stand_in,
    "nextcloud": real_site,
}


@pytest.fixture(
    scope="package",
    params=[
        "standin",
        pytest.param("nextcloud", marks=[pytest.mark.real_nextcloud, pytest.mark.timeout(600)]),
    ],
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with _SITES[request.param]() as site:
        yield site


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[MountStage]:
    home = tmp_path_factory.mktemp("programs") / "home"
    made = MountStage(home, site, user=site.user, password=site.password)
    yield made
    made.close()
    made.cloudfs("logout", "a")


@pytest.fixture
def place(request: pytest.FixtureRequest, stage: MountStage, site: Site) -> Iterator[Path]:
    """A folder in the mount; after the test the server must have exactly what the folder shows."""
    folder = stage.mount_point / request.node.originalname
    folder.mkdir()
    yield folder
    stage.sync()
    assert site.tree(folder.name) == contents(folder)


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
