"""A name under which the server stores something, and has nothing afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import read, write
from tests.functional.stages import PASSWORD, USER, VfsStage
from tests.servers.plain.dialects import LikeRclone

pytestmark = [pytest.mark.server("wsgidav"), pytest.mark.shared_engine]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[VfsStage]:
    server = LikeRclone()
    server.user, server.password = USER, PASSWORD
    with server:
        made = VfsStage(tmp_path / "engine", server)
        yield made
        made.close()


def test_it_is_told_of_and_goes_up_under_another_name(stage: VfsStage) -> None:
    here = stage.root()
    write(here, "tab\there", b"content")
    assert ["rename it" in trouble.reason for trouble in stage.send()] == [True]
    assert read(here, "tab\there") == b"content"
    here.rename("tab\there", "here")
    stage.sync()
    stage.look()
    assert read(here, "here") == b"content"
