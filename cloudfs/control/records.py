"""What the requests of `methods` take and answer; `protocol` has the rest. Paths are in the mount, beginning with /."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Nothing", "Paused", "Space", "Transfer", "Watch"]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Paused(msgspec.Struct, frozen=True):
    """Result of pause and resume."""

    since: float | None
    """Unix s; null: nothing is paused."""
    pending: int
    """Changes that are not on the server yet."""
    in_flight: int
    """Of these, small requests that are still under way."""


class Transfer(msgspec.Struct, frozen=True):
    """Bytes on their way at this moment."""

    path: str
    direction: Literal["up", "down"]
    done_bytes: int
    """Of the file for uploads; of the part that is fetched for downloads."""
    size_bytes: int
    bytes_per_s: float
    """Since this request began."""


class Space(msgspec.Struct, frozen=True):
    """What the account may still store on the server, and what it stores, in bytes."""

    free: int
    used: int


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of watch: a status as an event whenever it has changed, until the client hangs up."""

    every_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    """Never more often."""
