"""What signals ask of the daemon: to end, or to take over what the account's file says now."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

import trio

from cloudfs.errors import UserError

__all__ = ["heed_signals"]

_log = logging.getLogger("cloudfs.daemon")


async def heed_signals(stop: trio.Event, reload: Callable[[], object]) -> None:
    """End; or, by SIGHUP, take over what the account's file says now. To a terminal's program that means its end."""
    of_terminal = _has_terminal()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP and not of_terminal:
                try:
                    reload()
                except (UserError, OSError) as error:
                    # A mistake in the file, or trouble with a disk, and no bug.
                    _log.error("%s Nothing was changed.", error)
                continue
            _log.info("ending: %s", signal.Signals(number).name)
            stop.set()


def _has_terminal() -> bool:
    """Tell whether this belongs to somebody's terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
