"""A status as people read it: one screen, the most important first."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

from cloudfs.cli.common import in_units
from cloudfs.cli.deletions import next_steps, sentence
from cloudfs.cli.output import bar, paint
from cloudfs.cli.pin import kept_lines
from cloudfs.cli.states import meaning
from cloudfs.control.protocol import Status
from cloudfs.control.records import Limits, Transfer

__all__ = ["limit_lines", "screen", "when"]

_CHANGES = {
    "push": "the server tells of changes by others as they happen",
    "polling": "the server is asked for changes by others",
    "on use": "changes by others show when a folder is used",
}
_MOST = 10
"""Transfers and blocked files that are named; of more the number is told."""
_NEXT = " " * 14


def screen(status: Status) -> Iterator[str]:
    """Yield the lines."""
    yield f"{paint(status.account, 'bold')}: {status.user} at {status.url}"
    yield f"  mounted at  {status.mount_point} (process {status.pid})"
    yield from _connection(status)
    yield from _sending(status)
    yield f"  conflicts   {status.conflicts}{' (see `cloudfs conflicts`)' if status.conflicts else ''}"
    limit = f" of {in_units(status.cache_limit_bytes)}" if status.cache_limit_bytes else ""
    form = ", encrypted" if status.encrypted else ""
    yield f"  cache       {in_units(status.cache_bytes)}{limit}{form}"
    yield from kept_lines(status.kept)
    if status.space is not None:
        used, free = status.space.used, status.space.free
        yield f"  space       {in_units(used)} of {in_units(used + free)} used, {in_units(free)} free"
    elif status.used_bytes is not None:
        yield f"  space       {in_units(status.used_bytes)} used, unlimited"
    yield from _troubles(status)


def _connection(status: Status) -> Iterator[str]:
    since = "" if status.since is None else f" since {when(status.since)}"
    reason = f" ({status.reason})" if status.reason else ""
    state = paint(status.state, "green" if status.state == "online" else "yellow")
    yield f"  state       {state}{since}{reason}"
    if means := meaning(status, status.account):
        yield f"{_NEXT}{means}"
    if status.wipe_asked:
        yield "  wipe        the server asks for a remote wipe of this device: everything of the account goes"
    changes_since = time.strftime("%F %T", time.localtime(status.changes_since))
    yield f"  changes     {_CHANGES.get(status.changes, status.changes)} (since {changes_since})"


def _sending(status: Status) -> Iterator[str]:
    size = f", {in_units(status.pending_bytes)}" if status.pending_bytes else ""
    yield f"  to send     {status.pending} ({status.in_flight} under way{size})"
    if status.paused_since is not None:
        yield f"  {paint('paused', 'yellow')}      since {when(status.paused_since)}; `cloudfs resume` lets it go on"
    yield from limit_lines(status.limits)
    for transfer in status.transfers[:_MOST]:
        yield f"  {'sending' if transfer.direction == 'up' else 'fetching':<10}  {_progress(transfer)}"
    if len(status.transfers) > _MOST:
        yield f"{_NEXT}and {len(status.transfers) - _MOST} more"


def limit_lines(limits: Limits) -> Iterator[str]:
    """Say how quick it may be, and why; nothing where it may be as quick as the line."""
    for verb, rate, until in (
        ("sends", limits.up, limits.up_until),
        ("fetches", limits.down, limits.down_until),
    ):
        if rate is not None:
            end = "" if until is None else f" until {when(until)}"
            yield f"  limit       {verb} at {in_units(round(rate))}/s at most{end}"
    if limits.metered:
        parts = ["nothing is fetched that no program reads"] if limits.fetching_rests else []
        if limits.background is not None:
            parts.append(
                f"what no program reads is fetched at {in_units(round(limits.background))}/s at most"
            )
        parts += ["nothing is sent"] if limits.sending_rests else []
        what = ", and ".join(parts) or "which changes nothing, as the account's file says"
        yield f"  {paint('metered', 'yellow')}     the connection is: {what}"


def _progress(transfer: Transfer) -> str:
    part = min(transfer.done_bytes / transfer.size_bytes, 1.0) if transfer.size_bytes else 1.0
    text = f"{bar(part)} of {in_units(transfer.size_bytes)}"
    if transfer.bytes_per_s >= 1:
        left_s = (transfer.size_bytes - transfer.done_bytes) / transfer.bytes_per_s
        text += f", {in_units(round(transfer.bytes_per_s))}/s, {_duration(left_s)} left"
    return f"{text}  {transfer.path}"


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _troubles(status: Status) -> Iterator[str]:
    for item in status.blocked[:_MOST]:
        yield f"  {paint('blocked', 'red')}     {item.path}: {item.reason}"
        if item.next_step:
            yield f"{_NEXT}{item.next_step}"
    if len(status.blocked) > _MOST:
        yield f"{_NEXT}and {len(status.blocked) - _MOST} more (--json names all)"
    for damaged in status.damaged:
        state = (
            "readable, but not what"
            if damaged.readable
            else "not readable: each time something else comes, not what"
        )
        yield f"  checksum    {damaged.path}: {state} its checksum on the server says"
        yield f"{_NEXT}the server says {damaged.said}, what came has {damaged.came}"
        yield f"{_NEXT}{damaged.next_step}"
    for held in status.deletions:
        yield f"  waiting     {sentence(held)}"
        for line in next_steps(held):
            yield f"{_NEXT}{line}"


def when(unix_s: float) -> str:
    """Say a time as short as it is clear."""
    then, now = (dt.datetime.fromtimestamp(it).astimezone() for it in (unix_s, time.time()))
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"
