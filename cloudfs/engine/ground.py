"""What all rooms of an engine stand on: what the account has on this machine, and what is known while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.staging import Staging
from cloudfs.concurrency.clocks import Continuity
from cloudfs.engine.config import EngineConfig
from cloudfs.engine.disk import Disk
from cloudfs.engine.upcalls import Upcalls
from cloudfs.metadata.changes import ChangeSink, Overheard
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.touched import TouchLog
from cloudfs.store.store import Store
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.pinned import PinKeeper

__all__ = ["Ground", "lay_ground"]


@dataclass(frozen=True)
class Ground:
    """Of one engine."""

    config: EngineConfig
    store: Store
    staging: Staging
    blocks: BlockStore
    keeper: PinKeeper
    nursery: trio.Nursery
    continuity: Continuity
    inbox: Inbox
    upcalls: Upcalls
    sink: ChangeSink
    """Hears what others change, for the kernel; and so does what keeps files here."""
    residents: Residents
    displaced: Displaced
    touches: TouchLog
    echoes: Echoes


def lay_ground(
    config: EngineConfig, disk: Disk, sink: ChangeSink, nursery: trio.Nursery, continuity: Continuity
) -> Ground:
    """Have it ready for the rooms."""
    inbox, residents = Inbox(), Residents()
    upcalls = Upcalls(inbox)
    overheard = Overheard(sink, upcalls.heard)
    return Ground(
        config=config,
        store=disk.store,
        staging=disk.staging,
        blocks=disk.blocks,
        keeper=disk.keeper,
        nursery=nursery,
        continuity=continuity,
        inbox=inbox,
        upcalls=upcalls,
        sink=overheard,
        residents=residents,
        displaced=Displaced(disk.store, residents, overheard),
        touches=TouchLog(),
        echoes=Echoes(),
    )
