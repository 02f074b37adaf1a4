"""How long the commands wait for a server's answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import trio

from cloudfs.errors import Unreachable

__all__ = ["PATIENCE_S", "in_time"]

T = TypeVar("T")

PATIENCE_S = 60.0
"""A login's questions take seconds each, on a busy server too."""


async def in_time(question: Awaitable[T]) -> T:
    """Ask, but not for ever: a server that says a byte now and then is no answer. Raises Unreachable."""
    with trio.move_on_after(PATIENCE_S):
        return await question
    raise Unreachable(f"no answer within {PATIENCE_S:g} seconds")
