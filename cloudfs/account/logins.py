"""The password in use, and where it comes from: at the start, after a new login, and once the keyring is unlocked.

A mount does not wait for it: what is on this machine can be read and written without, and nothing is sent meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from cloudfs import log as logs
from cloudfs.errors import UserError
from cloudfs.secrets.protocol import KeyringAway, Lockable, SecretMissing, SecretStore
from cloudfs.sync.connectivity import Connectivity, State

__all__ = ["Login", "Session"]

_log = logging.getLogger(__name__)

_AT_ONCE_S = 2.0
"""So long the mount waits for an answer, which takes an unlocked keyring a hundredth of that."""
_POLL_S = 2.0
"""How often a locked keyring is looked at: 3 ms of work."""
_FOLLOW_S = 5.0
"""How often a refused or missing password, or a keyring that is not there, is looked for anew: each time the bus may
have to try to start one."""


class Session(Protocol):
    """What logs in with a password; a `WebdavRemote`."""

    def use_password(self, password: str) -> None:
        """Use it from the next request on."""
        ...


class Login:
    """One account's. `find` says where its password is by now; `stamp` changes with every new login."""

    def __init__(
        self, find: Callable[[], SecretStore], stamp: Callable[[], object], *, may_prompt: bool = False
    ) -> None:
        """`may_prompt`: there is a screen, and a person can be asked on it to unlock the keyring; once."""
        self._find = find
        self._stamp = stamp
        self._may_prompt = may_prompt
        self._read_at: object = None
        """The stamp when it was last read."""
        self.secret = ""
        """"" for none so far."""
        self.withheld: tuple[State, str] | None = None
        """The state of an account without a password, and why there is none."""
        self._failure: UserError | None = None
        self._looked = trio.Event()
        self._session: Session | None = None
        self._connectivity: Connectivity | None = None
        self._greet: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def begin(self) -> None:
        """Beside `run`, have it looked for, for a moment. Raises UserError where only a person can help."""
        with trio.move_on_after(_AT_ONCE_S):
            await self._looked.wait()
        if self._failure is not None:
            raise self._failure
        if not self.secret and self.withheld is None:
            self.withheld = (State.NO_KEYRING, "it has not answered yet")

    def attach(
        self, session: Session, connectivity: Connectivity, greet: Callable[[], Awaitable[None]]
    ) -> None:
        """From now on tell these of every other password than the one that `session` was made with."""
        self._session, self._connectivity, self._greet = session, connectivity, greet
        if self.withheld is None and connectivity.state in {State.NO_KEYRING, State.NEEDS_LOGIN}:
            session.use_password(self.secret)  # it came in the very moment between
            connectivity.logged_in()
        elif self.withheld is not None:
            connectivity.withhold(*self.withheld)

    async def run(self) -> None:
        """For ever: use the password once it can be read, and the next one once this one is refused."""
        async with trio.open_nursery() as nursery:
            while not self.secret:
                await self._wait_for_it(nursery)
            nursery.cancel_scope.cancel()  # an answer to the prompt is not waited for any more
        while True:
            await trio.sleep(_FOLLOW_S)
            await self.reread_if_refused()

    async def _wait_for_it(self, nursery: trio.Nursery) -> None:
        try:
            if await self.reread():
                await self._go_on()
        except KeyringAway as error:
            self._lacks(State.NO_KEYRING, error)
            if error.locked and self._may_prompt:
                self._may_prompt = False
                nursery.start_soon(self._prompt)
            await trio.sleep(_POLL_S if error.locked else _FOLLOW_S)
        except SecretMissing as error:
            self._lacks(State.NEEDS_LOGIN, error)
            await trio.sleep(_FOLLOW_S)
        except UserError as error:
            self._failure = error
            self._looked.set()
            await trio.sleep(_FOLLOW_S)

    async def _prompt(self) -> None:
        store = self._find()
        if isinstance(store, Lockable):
            with suppress(UserError):
                await store.unlock()

    def _lacks(self, state: State, error: UserError) -> None:
        reason = f"{error.message[:1].lower()}{error.message[1:].rstrip('.')}"
        self.withheld = (state, reason)
        self._looked.set()
        if self._connectivity is not None:
            self._connectivity.withhold(state, reason)

    async def reread(self) -> bool:
        """Use what is kept now; True when that is another password. UserError where it cannot be read."""
        self._read_at = self._stamp()
        secret = await self._find().read()
        if secret == self.secret:
            return False
        logs.hide(secret)
        if self.secret or self.withheld:
            _log.info("going on with %s", "a new login" if self.secret else "the password that has come")
        self.secret, self.withheld = secret, None
        self._looked.set()
        if self._session is not None:
            self._session.use_password(secret)
        return True

    async def reread_if_refused(self, *, asked: bool = False) -> None:
        """Look for another password where the server refuses this one, and have everything go on with it.

        `asked`: a person waits. Else a keyring, which may ask a person each time, is read after a new login only.
        """
        if self._connectivity is None or self._connectivity.state is not State.NEEDS_LOGIN:
            return
        try:
            if not asked and self._find().kind == "keyring" and self._stamp() == self._read_at:
                return
            if await self.reread():
                await self._go_on()
        except UserError as error:
            _log.debug("%s", error.message)

    async def _go_on(self) -> None:
        if self._connectivity is not None:
            self._connectivity.logged_in()
            await self._greet()
