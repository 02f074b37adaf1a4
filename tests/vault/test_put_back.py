"""Whoever can write to the disk puts all of an account's state back to an earlier one: what that can do, and cannot.

Nothing on the disk can show it, encrypted or not. It is to cloudfs what a restored backup is, and as harmless there.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cloudfs.blocks.sealing import Cipher, Keys
from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn

KEYS = Keys(bytes(range(32)), Cipher.AES)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
def test_nothing_that_the_server_has_since_is_lost(tmp_path: Path, keys: Keys | None) -> None:
    state, earlier = tmp_path / "home/state", tmp_path / "earlier"
    with StandIn() as server, closing(VfsStage(tmp_path / "home", server, quiet_s=0.0, keys=keys)) as stage:
        for name in ("edited", "removed"):
            write(stage.root(), name, b"first")
        stage.sync()
        server.stop()
        for name in ("edited", "new"):
            write(stage.root(), name, b"earlier")
        stage.root().unlink("removed")
        stage.close()
        shutil.copytree(state, earlier)
        server.start()
        stage.reopen()
        for name in ("edited", "new", "removed"):
            write(stage.root(), name, b"later")
        stage.sync()
        stage.close()
        shutil.rmtree(state)
        earlier.rename(state)
        stage.reopen()
        stage.sync()
        tree = server.account(USER).tree()
    kept = {name: content for name, content in tree.items() if "conflicted copy" not in name}
    assert kept == dict.fromkeys(("edited", "new", "removed"), b"later")
    assert sorted(content or b"" for name, content in tree.items() if name not in kept) == [b"earlier"] * 2
