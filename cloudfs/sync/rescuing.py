"""Rescues bytes of files whose copies on the server are about to go: of open ones, and of those with local names."""

from __future__ import annotations

import logging

from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import BaseLost, Changed
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.evidence import Evidence

__all__ = ["Rescuer"]

_log = logging.getLogger(__name__)


class Rescuer:
    """Brings into staging what the server alone has of a file, if it still has that."""

    def __init__(self, store: Store, remote: Remote, outgoing: Outgoing) -> None:
        self._nodes = store.nodes
        self._outgoing = outgoing
        self._evidence = Evidence(remote)

    async def rescue(self, node: Node) -> None:
        """Make a file independent of the server, as far as another client has not replaced its version.

        Of a replaced one nothing is there that our step could take: readers of an open one get ESTALE for it as ever,
        and of what the mount shows `cloudfs status` tells. Raises RemoteError and LocalDamage, BaseLost and Changed
        where a listing has more to tell: where the file went, or what the version is that an unedited one is to show.
        """
        try:
            await self._outgoing.keep(node)
        except (BaseLost, Changed) as error:
            if (node.linked and isinstance(error, Changed)) or not await self._is_replaced(node):
                raise
            level = logging.WARNING if node.linked else logging.INFO
            _log.log(level, "%s cannot be read in full any more: %s", node.name, error)

    async def _is_replaced(self, node: Node) -> bool:
        path = self._nodes.synced_path(node.ino)
        if path is None:
            return True  # nothing of it is on the server
        entry = await self._evidence.look(path)
        if entry is None or self._evidence.is_another(node, entry):
            return False  # it may have been moved there
        return not entry.version.same_content(node.remote_version)
