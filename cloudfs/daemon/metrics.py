"""The figures of a mount for Prometheus: what its status says, and what its connections have counted."""

from __future__ import annotations

from collections.abc import Iterator

from cloudfs.control.protocol import Status
from cloudfs.prometheus import Family, counter, gauge, histogram, text
from cloudfs.remote.limiting import Traffic
from cloudfs.sync.connectivity import State

__all__ = ["exposition"]

_STATES = tuple(state.value for state in State)


def exposition(status: Status, traffic: Traffic) -> str:
    """Return everything as text."""
    families = (*_connection(status), *_sending(status), *_wire(traffic), *_here(status))
    return text(families, {"account": status.account})


def _connection(status: Status) -> Iterator[Family]:
    labels = {"version": status.version, "server": status.server}
    yield gauge("cloudfs_info", "What runs, and which server it talks to.", (labels, 1))
    yield gauge("cloudfs_uptime_seconds", "Since the mount.", ({}, status.uptime_s))
    yield gauge(
        "cloudfs_connection_state",
        "1 for the state that the connection is in.",
        *(({"state": state}, float(state == status.state)) for state in _STATES),
    )
    yield gauge(
        "cloudfs_paused", "1 while somebody has paused it.", ({}, float(status.paused_since is not None))
    )
    yield gauge("cloudfs_metered", "1 while the connection is metered.", ({}, float(status.limits.metered)))
    yield gauge(
        "cloudfs_limit_bytes_per_second",
        "The limits of speed in force.",
        ({"direction": "up"}, status.limits.up),
        ({"direction": "down"}, status.limits.down),
    )


def _sending(status: Status) -> Iterator[Family]:
    yield gauge("cloudfs_pending_files", "Changed here, and not on the server yet.", ({}, status.pending))
    yield gauge(
        "cloudfs_pending_bytes", "What the contents to be sent add up to.", ({}, status.pending_bytes)
    )
    yield gauge("cloudfs_in_flight_files", "Being sent at this moment.", ({}, status.in_flight))
    yield gauge("cloudfs_blocked_files", "Cannot be sent before somebody acts.", ({}, len(status.blocked)))
    yield gauge("cloudfs_conflicts", "Files of which two versions lie side by side.", ({}, status.conflicts))
    yield gauge(
        "cloudfs_damaged_files", "Contents that do not fit their checksum.", ({}, len(status.damaged))
    )
    yield gauge(
        "cloudfs_held_deletions",
        "Deletions of much at once that wait for somebody's word.",
        *(({"side": held.side}, held.count) for held in status.deletions),
    )


def _wire(traffic: Traffic) -> Iterator[Family]:
    yield counter("cloudfs_sent_bytes_total", "Sent to the server.", ({}, traffic.sent_bytes))
    yield counter("cloudfs_received_bytes_total", "Received from the server.", ({}, traffic.received_bytes))
    yield counter(
        "cloudfs_requests_total",
        "Requests by what came of them: the status, or what kept an answer from coming.",
        *(({"method": method, "outcome": outcome}, n) for method, outcome, n in traffic.tally.outcomes()),
    )
    yield histogram(
        "cloudfs_request_seconds",
        "From a request to the head of its answer.",
        *(({"method": method}, found) for method, found in sorted(traffic.tally.seconds().items())),
    )


def _here(status: Status) -> Iterator[Family]:
    yield gauge("cloudfs_cache_bytes", "Cached contents.", ({}, status.cache_bytes))
    yield gauge("cloudfs_cache_limit_bytes", "Most that they may take.", ({}, status.cache_limit_bytes))
    yield counter("cloudfs_cache_hits_total", "Blocks that were found in the cache.", ({}, status.cache_hits))
    yield counter("cloudfs_cache_misses_total", "Blocks that were not.", ({}, status.cache_misses))
    kept = status.kept
    yield gauge(
        "cloudfs_kept_files", "Always kept here: pinned, or by the account's settings.", ({}, kept.files)
    )
    yield gauge("cloudfs_kept_bytes", "What they add up to.", ({}, kept.bytes))
    yield gauge("cloudfs_kept_missing_files", "Of these, still to come.", ({}, kept.missing_files))
    yield gauge("cloudfs_kept_missing_bytes", "What is missing of them.", ({}, kept.missing_bytes))
    yield gauge("cloudfs_kept_failing_files", "Of these, cannot be brought for now.", ({}, kept.cannot_files))
    space = status.space
    yield gauge("cloudfs_quota_used_bytes", "Stored on the server.", ({}, status.used_bytes))
    yield gauge(
        "cloudfs_quota_free_bytes", "What may still be stored there.", ({}, space.free if space else None)
    )
    yield counter(
        "cloudfs_kernel_requests_total",
        "What programs asked of the mount, by the kernel's names.",
        *(({"operation": name}, number) for name, number in sorted(status.requests.items())),
    )
