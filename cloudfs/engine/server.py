"""The way to the server: the one door to it, and whether, and how much, may go through."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.engine.ground import Ground
from cloudfs.metadata.quota import Quota
from cloudfs.remote.protocol import Outspoken, Piecemeal, Remote, Spelling
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.gate import GatedRemote
from cloudfs.sync.leftovers import Leftovers
from cloudfs.sync.pausing import Pause

__all__ = ["Server", "make_server"]


@dataclass(frozen=True)
class Server:
    """As all above see it."""

    remote: GatedRemote
    connectivity: Connectivity
    pause: Pause
    quota: Quota
    leftovers: Leftovers | None
    """Removes pieces that nobody wants; None: the server keeps none."""
    outspoken: Outspoken | None
    """What it tells without a login; None: nothing."""


def make_server(ground: Ground, remote: Remote, withheld: tuple[State, str] | None) -> Server:
    """Make the way to it; `withheld`: see `Connectivity.withhold`."""
    upcalls = ground.upcalls
    connectivity = Connectivity(upcalls.returned, upcalls.left_alone, withheld=withheld)
    leftovers = Leftovers(ground.store, remote) if isinstance(remote, Piecemeal) else None
    pause = Pause(ground.store, upcalls.resumed)
    if isinstance(remote, Spelling):
        remote.spell_by(ground.store.nodes.spelled)
    gate = GatedRemote(remote, connectivity)
    gate.pause = pause
    if leftovers is not None:
        _tell_of_pieces(ground, gate, leftovers, pause)
    quota = Quota(gate, ground.nursery, ground.inbox.has_room)
    gate.spent, gate.freed = quota.spent, quota.freed
    outspoken = remote if isinstance(remote, Outspoken) else None
    return Server(gate, connectivity, pause, quota, leftovers, outspoken)


def _tell_of_pieces(ground: Ground, gate: GatedRemote, leftovers: Leftovers, pause: Pause) -> None:
    gate.goes_in_pieces = leftovers.is_under_way

    def begun() -> None:
        pause.sending.review()
        ground.inbox.ring()  # so does the worker, of what was changed or removed

    leftovers.told = begun
