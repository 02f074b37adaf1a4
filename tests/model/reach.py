"""Counts how often histories come to what is there for much at once: small ones could all pass it by unnoticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

from cloudfs.metadata.arriving import Arriving
from cloudfs.metadata.renewing import Renewed, Renewer
from cloudfs.sync import sweep
from cloudfs.sync.bulk import BulkUploader
from cloudfs.sync.descent import Descent
from cloudfs.sync.replanning import still_right
from cloudfs.sync.steps import Step
from cloudfs.sync.sweep import Sweep

__all__ = ["WAYS", "counted"]

WAYS = (
    "folders renewed in one request",
    "folders listed two at a time",
    "parts of a backlog",
    "steps found across parts",
    "files sent in bulk",
    "nodes that became one with what was listed in their new place",
)


def _after(call: Callable[..., Any], count: Callable[..., None]) -> Callable[..., Any]:
    @wraps(call)
    def counting(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        count(result, *args)
        return result

    return counting


def _after_awaiting(call: Callable[..., Awaitable[Any]], count: Callable[..., None]) -> Callable[..., Any]:
    @wraps(call)
    async def counting(*args: Any, **kwargs: Any) -> Any:
        result = await call(*args, **kwargs)
        count(result, *args)
        return result

    return counting


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count within the block."""
    ways = Counter[str](dict.fromkeys(WAYS, 0))

    def renewed(result: Renewed, *_: object) -> None:
        ways["folders renewed in one request"] += len(result.taken)

    def listed(_result: None, _self: Descent, folders: Sequence[object]) -> None:
        ways["folders listed two at a time"] += len(folders) > 1

    def planned(_result: object, planning: Sweep) -> None:
        ways["parts of a backlog"] += bool(planning._planned_to)

    def parted(steps: list[Step], *_: object) -> None:
        ways["steps found across parts"] += len(steps)

    def sent(outcome: dict[object, object], *_: object) -> None:
        ways["files sent in bulk"] += sum(error is None for error in outcome.values())

    def joined(*_: object) -> None:
        ways["nodes that became one with what was listed in their new place"] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renewer, "renew", _after_awaiting(Renewer.renew, renewed))
        patch.setattr(Descent, "_list_all", _after_awaiting(Descent._list_all, listed))
        patch.setattr(Sweep, "plan", _after(Sweep.plan, planned))
        patch.setattr(sweep, "still_right", _after(still_right, parted))
        patch.setattr(BulkUploader, "send", _after_awaiting(BulkUploader.send, sent))
        patch.setattr(Arriving, "become_one", _after(Arriving.become_one, joined))
        yield ways
