"""Names that begin with a dot, on servers that leave them out of their listings.

nginx does (dav-ext 3.0.0, measured): it stores them, and tells of each that is asked for by its name. Taken at its word
a listing would take a `.git` from whoever has just made it, though the server has all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cloudfs.errors import Forbidden, NotFound, Unsupported
from cloudfs.paths import join
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry, RemotePath

__all__ = ["DotNames"]

_log = logging.getLogger(__name__)

_MOST_GONE = 8
"""After so many that are gone indeed, and none that is there, a listing is believed about the others: another client
has removed them."""


class DotNames:
    """Completes listings by what is known to have been there."""

    def __init__(self, store: Store, remote: Remote) -> None:
        self._nodes = store.nodes
        self._remote = remote
        self._told = False

    async def completed(
        self, folder: Ino, path: RemotePath, members: Sequence[RemoteEntry]
    ) -> Sequence[RemoteEntry]:
        """Return a folder's members with those of its known names with a dot that the server has all the same.

        They are looked at one by one where a listing shows none at all. Raises RemoteError: then nothing is known.
        """
        if self._remote.features.nextcloud:
            return members
        known = self._nodes.synced_dot_names(folder)
        if not known or any(entry.name.startswith(".") for entry in members):
            return members
        there: list[RemoteEntry] = []
        for number, name in enumerate(known):
            if number >= _MOST_GONE and not there:
                break
            try:
                there.append(await self._remote.stat(join(path, name)))
            except (NotFound, Forbidden, Unsupported):  # also what nobody may ask for any more
                continue
        if there and not self._told:
            self._told = True
            message = (
                "%s: the server does not list names that begin with a dot (%s): those made here go on showing here,"
                " and on no other machine"
            )
            _log.warning(message, path, there[0].name, extra={"path": path})
        return [*members, *there]
