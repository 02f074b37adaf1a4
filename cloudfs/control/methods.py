"""Requests of the control protocol that are looked up in a table: what is asked for, and who answers.

Each one may tell how far it is (`Tell`), any number of times before its result; a client that waits hears from the
server now and then in any case.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import trio

from cloudfs.errors import ExitCode, UserError

__all__ = ["Method", "Tell", "beside", "method", "parameters"]

P = TypeVar("P")

Tell = Callable[[object], Awaitable[None]]
"""Sends an event to the client."""

Method = Callable[[msgspec.Raw, Tell], Awaitable[object]]
"""Carries out a request from its parameters as they came; its result is what is sent."""


def method(kind: type[P], carry_out: Callable[[P, Tell], Awaitable[object]]) -> Method:
    """Have the parameters checked first; UserError USAGE for wrong ones."""

    async def checked(raw: msgspec.Raw, tell: Tell) -> object:
        return await carry_out(parameters(raw, kind), tell)

    return checked


def parameters(raw: msgspec.Raw, kind: type[P], name: str = "this request") -> P:
    """Return the parameters of a request; UserError USAGE."""
    try:
        return msgspec.json.decode(bytes(raw), type=kind)
    except msgspec.MsgspecError as error:
        raise UserError(f"The parameters of {name} are wrong: {error}", code=ExitCode.USAGE) from error


async def beside(report: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[P]]) -> P:
    """Do something while somebody is told of progress; a UserError comes as it is, not in the nursery's group."""
    done: list[P] = []
    refused: UserError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        try:
            done.append(await work())
        except UserError as error:
            refused = error
        nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return done[0]
