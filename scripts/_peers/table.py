"""Figures as Markdown: one table for each distance, and what missed its goal."""

from __future__ import annotations

from collections.abc import Iterator

from scripts._peers.figures import LIMIT, US, Cell, Figures
from scripts._peers.works import WORKS

__all__ = ["MEMORY_GOAL_MIB", "document", "tables"]

MEMORY_GOAL_MIB = 120 * 1_000_000 / 2**20
_MB = 1_000_000


def tables(figures: Figures) -> Iterator[str]:
    """Return the lines of all tables."""
    for rtt_ms in figures.rtts():
        yield f"\n## RTT {rtt_ms} ms\n"
        yield from _table(figures, rtt_ms)
    yield "\n## Memory, the most in all of it\n"
    for client in figures.clients():
        if client != LIMIT:
            peak = figures.peak_mib(client)
            goal = f" (goal: {MEMORY_GOAL_MIB:.0f})" if client == US else ""
            yield f"- {client}: {peak:.0f} MiB{goal}"


def _table(figures: Figures, rtt_ms: int) -> Iterator[str]:
    clients = figures.clients()
    yield f"| work | {' | '.join(clients)} | times faster | goal | missed |"
    yield "|" + "---|" * (len(clients) + 4)
    for work in WORKS:
        for name, goal in work.parts():
            missed = figures.missed(rtt_ms, name, goal)
            if missed is None:
                continue
            cells = " | ".join(_cell(figures.cell(rtt_ms, name, it)) for it in clients)
            ratio = figures.ratio(rtt_ms, name)
            yield f"| {name} | {cells} | {_times(ratio)} | {goal.text} | {'; '.join(missed)} |"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.failed:
        return f"given up: {cell.failed.replace('|', '/').splitlines()[0]}"
    parts = [f"{cell.seconds:.2f} s", f"{cell.requests:.0f} requests"]
    if cell.down_bytes + cell.up_bytes > _MB / 100:
        parts.append(f"{cell.down_bytes / _MB:.2f} MB down, {cell.up_bytes / _MB:.2f} MB up")
    if cell.cpu_s >= 0.01:
        parts.append(f"CPU {cell.cpu_s:.2f} s")
    return "; ".join([*parts, *filter(None, [cell.note])])


def document(figures: Figures, facts: str, chart: str) -> str:
    """Return the page: what was measured where, the chart, the tables."""
    head = f"""# Benchmarks

cloudfs beside other mounts of the same server, by `scripts/bench peers` ([PERFORMANCE.md](PERFORMANCE.md) says how).
{facts}

In turn, the middle of the runs, each time from scratch: a new mount that knows nothing of the server. All through a
proxy on the same machine, which delays, counts and does not throttle. Bytes are those of the connection, with all
heads; CPU is that of the client's processes. "Times faster" is the best peer's time by ours. `curl` is the limit: one
request, no file system. "On the server" is counted from the beginning, and each client is asked to hurry in its way:
cloudfs by `cloudfs sync --wait`, davfs2 by unmounting; rclone has no such thing, and waits for 5 s before it sends.

![Times faster than the best peer]({chart})
"""
    return head + "\n".join(tables(figures)) + "\n"
