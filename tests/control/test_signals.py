"""SIGHUP has a daemon read its account's file again; no trouble with that ends the mount."""

from __future__ import annotations

import errno
import os
import signal

import pytest
import trio
import trio.testing

from cloudfs.daemon import signals
from cloudfs.errors import UserError


@pytest.mark.expect_log("Nothing was changed")
@pytest.mark.parametrize(
    "trouble",
    [
        UserError("x.toml:3: settings.nope: there is no such setting."),
        OSError(errno.EIO, "Input/output error", "/cache"),
    ],
)
async def test_a_file_that_cannot_be_gone_by(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_has_terminal", lambda: False)
    stop, tried = trio.Event(), trio.Event()

    def reload() -> None:
        tried.set()
        raise trouble

    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.heed_signals, stop, reload)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        await tried.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not stop.is_set()
        nursery.cancel_scope.cancel()
