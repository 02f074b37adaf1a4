"""Who carries out steps: one hand for each kind of them."""

from __future__ import annotations

from cloudfs.engine.ground import Ground
from cloudfs.engine.guarding import Guards
from cloudfs.engine.reading import Reading
from cloudfs.engine.server import Server
from cloudfs.engine.tree import Shown
from cloudfs.metadata.renewing import Renewer
from cloudfs.sync.appending import Appending
from cloudfs.sync.bulk import BulkUploader
from cloudfs.sync.committing import Committer
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.execute import Hands
from cloudfs.sync.finding import Finder
from cloudfs.sync.folders import FolderMaker
from cloudfs.sync.moving import Mover
from cloudfs.sync.newfolders import FolderLooks, NewFolders
from cloudfs.sync.packing import Contents, Packer
from cloudfs.sync.removal import Remover
from cloudfs.sync.upload import Uploader

__all__ = ["make_hands"]


def make_hands(ground: Ground, server: Server, reading: Reading, guards: Guards, shown: Shown) -> Hands:
    """Make those who carry out steps."""
    store, remote, touches, residents = ground.store, server.remote, ground.touches, ground.residents
    lister, takeover, collect = shown.lister, shown.takeover, shown.tree.collect
    appending = Appending(remote, ground.config.append_bytes)
    contents = Contents(reading.files, reading.outgoing, reading.fetcher, appending)
    doubts, new_folders = Doubts(store.nodes), NewFolders()
    conflicts = Conflicts(store, takeover, ground.sink, met=new_folders.forget)
    lister.sole_use = new_folders
    looks = FolderLooks(new_folders, remote, lister, touches, Renewer(store, remote, touches, lister))
    packer, committer = Packer(store, contents, residents, collect), Committer(store, doubts, collect)
    uploader = Uploader(store, remote, contents, residents, conflicts, doubts, packer, committer)
    uploader.breaks.goes_in_pieces = remote.goes_in_pieces
    folders = FolderMaker(store, remote, conflicts, doubts, new_folders.made, lister.refresh_later, collect)
    mover = Mover(store, remote, uploader, conflicts, doubts)
    remover = Remover(store, remote, lister, residents, contents.files, contents.outgoing, doubts, uploader)
    remover.is_held = guards.guard.holds
    return Hands(
        Finder(store, remote, folders, mover, uploader, remover, takeover, doubts, collect),
        folders,
        uploader,
        BulkUploader(store, remote, packer, committer, doubts, looks),
        mover,
        remover,
    )
