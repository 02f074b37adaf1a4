"""The way of a change by another client: who finds out that there is one, by being told or by looking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudfs.engine.ground import Ground
from cloudfs.engine.server import Server
from cloudfs.engine.tree import Shown
from cloudfs.metadata.renewing import Renewer
from cloudfs.sync.descent import Descent
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.watching import Pace, Watcher

__all__ = ["Watching", "make_watching"]


@dataclass(frozen=True)
class Watching:
    """Of the whole account."""

    watcher: Watcher
    pusher: Pusher


def make_watching(ground: Ground, server: Server, shown: Shown, told: Callable[[bool], None]) -> Watching:
    """Make those who watch; `told` hears whether they find out everything by themselves."""
    config, store, remote, lister = ground.config, ground.store, server.remote, shown.lister
    renewer = Renewer(store, remote, ground.touches, lister)
    descent = Descent(store, remote, lister, renewer, ours=lambda: remote.changes)
    watcher = Watcher(
        descent.run,
        Pace(poll_s=config.poll_s, fresh_s=config.listing_ttl_s, used_s=3 * config.listing_ttl_s),
        possible=lambda: remote.features.deep_etags,
        not_before=lambda: server.connectivity.next_try,
        told=told,
        behind=lambda: descent.is_behind,
    )
    lister.watch = watcher
    descent.is_told = lambda: watcher.is_told
    ground.upcalls.watcher = watcher
    return Watching(watcher, Pusher(store.nodes, remote, watcher, descent, ground.echoes))
