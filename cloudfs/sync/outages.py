"""Asks the server what can be asked while it refuses everything else: is maintenance over, is this device to be wiped?

SOURCE: protocol.md §11: in maintenance status.php goes on answering, at a tenth of the price of a failing request; and
a login that is refused may be that of a lost device whose owner wants everything removed (`wiping` does so).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import trio

from cloudfs.errors import RemoteError
from cloudfs.remote.protocol import Outspoken
from cloudfs.sync.connectivity import Connectivity, State

__all__ = ["Outages"]

_log = logging.getLogger(__name__)

_SOON_S = 1.0
"""The first question tells maintenance from an upgrade that waits for its administrator."""
_FIRST_S, _LONGEST_S = 30.0, 120.0
_AGAIN_S, _LATEST_S = 60.0, 600.0
"""Nextcloud answers ten questions about wipes in five minutes."""


class Outages:
    """Works beside the worker; `greet` is how a server is met that has come back."""

    def __init__(
        self, connectivity: Connectivity, server: Outspoken, greet: Callable[[], Awaitable[None]]
    ) -> None:
        self._connectivity = connectivity
        self._server = server
        self._greet = greet
        self._ended_at = float("-inf")
        self.wipe = trio.Event()
        """The server wants everything of this account removed from this device."""
        connectivity.standstill.watched = True

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_maintenance)
            nursery.start_soon(self._follow_refusals)

    # Maintenance

    async def _follow_maintenance(self) -> None:
        while True:
            await self._connectivity.standstill.began.wait()
            await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        standstill = self._connectivity.standstill
        # Right after an end that was none (a page of status that a proxy keeps) each look costs failing requests.
        is_new = trio.current_time() - self._ended_at > 2 * _LONGEST_S
        pause_s = _SOON_S if is_new else _FIRST_S
        while standstill.in_maintenance:
            with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311  # spreads clients
                await standstill.over.wait()
                await self._have_it_found_out()
                return
            if await self._is_over():
                _log.info("the server's maintenance is over")
                self._ended_at = trio.current_time()
                self._connectivity.reopen()
                await self._greet()
                return
            pause_s = max(_FIRST_S, min(pause_s * 1.5, _LONGEST_S))

    async def _have_it_found_out(self) -> None:
        """A request has shown what it is now, or is to; where none comes, it is ours."""
        with trio.move_on_after(_FIRST_S):
            await self._connectivity.standstill.began.wait()
        if self._connectivity.state is State.MAINTENANCE and not self._connectivity.standstill.in_maintenance:
            await self._greet()

    async def _is_over(self) -> bool:
        try:
            health = await self._server.health()
        except RemoteError as error:
            _log.debug("it does not even tell its status: %s", error)
            return True  # what it is now, the next request shows
        if health is not None and health.upgrade:
            self._connectivity.explain("an upgrade of the server waits to be finished by its administrator")
        return health is None or not (health.maintenance or health.upgrade)

    # A refused login

    async def _follow_refusals(self) -> None:
        while True:
            await self._connectivity.login_refused.wait()
            login_is_good = self._connectivity.login_is_good
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask_for_wipe)
                    await login_is_good.wait()
                    scope.cancel()

    async def _ask_for_wipe(self) -> None:
        pause_s = _AGAIN_S
        while True:
            try:
                if await self._server.asks_for_wipe():
                    _log.warning("the server asks for a remote wipe of this device")
                    self.wipe.set()
            except RemoteError as error:
                _log.info("cannot ask whether this device is to be wiped: %s", error)
            else:
                return
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LATEST_S)
