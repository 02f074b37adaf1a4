"""Has everything that is done in slices be done one by one, so that small histories meet what large folders do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cloudfs.content import disposal, hardening
from cloudfs.metadata import (
    accepting,
    arriving,
    comparison,
    dropping,
    following,
    guard,
    spreading,
    takeover,
    vanished,
)
from cloudfs.store import snapshot, store
from cloudfs.sync import bringing, descent, kept, removal, rings, sweep

__all__ = ["sliced"]

_SIZES = [
    (comparison, "_AT_ONCE"),
    (disposal, "_AT_ONCE"),
    (following, "_MANY"),
    (guard, "_AT_ONCE"),
    (guard, "_MANY"),
    (descent, "_FEW"),
    (hardening, "_AT_ONCE"),
    (bringing, "_PART"),
    (kept, "_PAGE"),
    (accepting, "_AT_ONCE"),
    (accepting, "_MANY"),
    (arriving, "_AT_ONCE"),
    (arriving, "_MANY"),
    (removal, "_BATCH"),
    (removal, "_ONE_MOMENT"),
    (rings, "_LOOKED_AT"),
    (rings, "_PART"),
    (snapshot, "_NODES"),
    (snapshot, "_SHORT"),
    (spreading, "_FEW"),
    (spreading, "_SLICE"),
    (store, "_AT_ONCE"),
    (sweep, "_PART"),
    (takeover, "_BATCH"),
    (dropping, "_BATCH"),
    (dropping, "_FOLDERS"),
    (takeover, "_MANY"),
    (vanished, "_AT_ONCE"),
]


@contextmanager
def sliced(size: int | None) -> Iterator[None]:
    """Within the block slices have this size; None: as ever."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in _SIZES if size is not None else ():
            assert isinstance(getattr(module, name), int)
            patch.setattr(module, name, size)
        yield
