"""Carries out one step: one request (or a few), then one transaction that moves the synced view.

A step whose reply is lost is found out before anything else is done (`FindOut`): the server is asked what it has,
and what is already as it should be is committed without doing it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from cloudfs.errors import BaseLost, Changed, CloudfsError, ConditionRefused, NotFound, RemoteError
from cloudfs.metadata.columns import NS, version_columns
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.touched import TouchLog
from cloudfs.remote.dialect import clamp_mtime
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.store.store import Store
from cloudfs.sync.bulk import BulkUploader
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.evidence import TimeProof, base_content, condition_refused
from cloudfs.sync.finding import Finder
from cloudfs.sync.folders import FolderMaker
from cloudfs.sync.moving import Mover
from cloudfs.sync.removal import Remover
from cloudfs.sync.steps import FindOut, MakeFolder, Move, MoveAside, Remove, SetTime, Step, Upload
from cloudfs.sync.upload import Uploader
from cloudfs.types import Ino, RemotePath, RemoteVersion

__all__ = ["Executor", "Hands"]


@dataclass(frozen=True)
class Hands:
    """Who carries out which kind of step."""

    finder: Finder
    folders: FolderMaker
    uploader: Uploader
    bulk: BulkUploader
    mover: Mover
    remover: Remover


class Executor:
    """Carries out steps one at a time each; the worker decides which and when."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        lister: Lister,
        touches: TouchLog,
        hands: Hands,
        echoes: Echoes | None = None,
    ) -> None:
        self._echoes = echoes or Echoes()
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._lister = lister
        self._touches = touches
        self._hands = hands
        self.tell_committed = hands.uploader.tell_committed

    def is_current(self, step: Step) -> bool:
        """Tell whether the nodes are still exactly those that the step was planned from."""
        return all(self._nodes.get(node.ino) == node for node in step.involved)

    async def run(self, step: Step) -> None:
        """Carry out a step. Raises RemoteError, BaseLost and LocalDamage; then nothing was committed."""
        path = self._nodes.synced_path(step.node.ino)
        try:
            with self._touches.step(self._places(step)):
                as_planned = await self._carry_out(step)
                self._note_echoes(step)
        except (NotFound, Changed, ConditionRefused, BaseLost) as error:
            self._have_found_out_anew(step.node.ino)
            # Not before: a listing leaves out the names that a step is just changing, and these it is to be asked for.
            await self._look_again(step)
            if isinstance(error, BaseLost) and self._nodes.synced_path(step.node.ino) != path:
                # It was looked for in its old place. Of a folder above it that was moved its own row says nothing.
                raise Changed("it was moved on the server", subject=step.node.name) from error
            raise
        if not as_planned:
            await self._look_again(step)

    def break_off_unwanted(self) -> None:
        """End the large uploads of files that were removed, replaced or changed here since they began."""
        self._hands.uploader.breaks.review()

    def takes_together(self, step: Step) -> bool:
        """Tell whether a step can be carried out together with others of which this is said."""
        return self._hands.bulk.takes(step)

    async def run_together(self, steps: Sequence[Upload]) -> dict[Ino, CloudfsError | None]:
        """Carry out uploads in one request; return what came of each: see `BulkUploader.send`. Raises RemoteError."""
        places = [place for step in steps for place in self._places(step)]
        with self._touches.step(places):
            outcome = await self._hands.bulk.send(steps)
            for step in steps:
                self._note_echoes(step)
            return outcome

    def _note_echoes(self, step: Step) -> None:
        after = [self._nodes.get(node.ino) for node in step.involved]
        self._echoes.note(node.s_file_id for node in (*step.involved, *filter(None, after)))
        self._echoes.note_within(folder for folder, _ in self._places(step))
        self._echoes.note_within(node.ino for node in step.involved if node.folder)
        if isinstance(step, Remove) and step.node.s_parent is not None:
            # A Nextcloud tells of all the folders above.
            self._echoes.note_within(self._nodes.synced_ancestors(step.node.s_parent))

    async def _carry_out(self, step: Step) -> bool:
        """Return False where the server had something else that won: it is to be shown soon."""
        match step:
            case FindOut(node=node):
                return await self._hands.finder.find_out(node)
            case MakeFolder(node=node):
                await self._hands.folders.make(node)
            case Upload():
                await self._hands.uploader.upload(step)
            case Move(node=node):
                return await self._hands.mover.move(node, (node.parent or node.ino, node.name))
            case MoveAside(node=node):
                return await self._hands.mover.move(node, (node.s_parent or node.ino, _name_aside(node)))
            case Remove(node=node):
                return await self._hands.remover.remove(node)
            case SetTime(node=node):
                await self._set_time(node)
        return True

    def _have_found_out_anew(self, ino: Ino) -> None:
        """What was to be tried again does not fit any more: the earlier try was carried out late, or never will be.

        While it is in doubt no listing may have the node gone.
        """
        node = self._nodes.get(ino)
        if node is not None and node.tried is not None:
            self._nodes.begin_try(ino, node.tried)

    async def _look_again(self, step: Step) -> None:
        """The server is not as the step was planned for: list every folder on the way to the step's places."""
        for folder, _ in self._places(step):
            with contextlib.suppress(RemoteError):
                await self._lister.refresh_above(folder)
                if self._lister.is_under_way(folder):
                    await self._lister.refresh(folder)  # asked for before the step was over
                await self._lister.refresh(folder)

    def _places(self, step: Step) -> list[tuple[Ino, str]]:
        places = [
            (parent, name)
            for node in step.involved
            for parent, name in (
                (node.parent, node.name),
                (node.s_parent, node.s_name),
                (node.t_parent, node.t_name),
            )
            if parent is not None and name is not None
        ]
        if isinstance(step, MoveAside) and step.node.s_parent is not None:
            places.append((step.node.s_parent, _name_aside(step.node)))
        return places

    # Times

    async def _set_time(self, node: Node) -> None:
        path, mtime_s = self._nodes.synced_path(node.ino), node.mtime_ns // NS
        if path is None:
            raise NotFound("it is not on the server any more", subject=node.name)
        base = None if node.folder else node.remote_version
        if base is not None:
            await self._require_base(node, path, base)
        try:
            taken_s = await self._remote.set_mtime(path, mtime_s, expect=base)
        except Changed:
            if base is not None and base.same_content((await self._remote.stat(path)).version):
                raise condition_refused(path) from None
            raise
        columns: dict[str, object] = {"s_mtime_ns": node.mtime_ns}
        if taken_s is not None:
            columns |= self._retimed(node, taken_s, (await self._remote.stat(path)).version)
        with self._store.transaction():
            self._nodes.update(node.ino, **columns)
            self._store.end_retimings(node.ino)

    async def _require_base(self, node: Node, path: RemotePath, base: RemoteVersion) -> None:
        """Raise Changed where the server has another version; note what our request is about to make of this one."""
        if not base.same_content((await self._remote.stat(path)).version):
            raise Changed("it was changed on the server", subject=path)
        if not base_content(node) and node.s_version is not None:
            proof = TimeProof(clamp_mtime(node.mtime_ns // NS), node.s_file_id or "")
            self._store.begin_attempt(Attempt(node.ino, node.s_version, base.size, str(proof)))

    @staticmethod
    def _retimed(node: Node, mtime_s: int, version: RemoteVersion) -> dict[str, object]:
        """Return what to note of the version that our request made; nothing of another client's: a listing finds it."""
        if node.folder:
            return {"s_modified_s": version.modified_s}
        ours = (
            version.modified_s == mtime_s
            and version.size == (node.s_size or 0)
            and version.checksum in {node.s_checksum, None}
        )
        return version_columns(version) if ours else {}


def _name_aside(node: Node) -> str:
    """Return the name that a node has on the server between two renames; no longer than a name may be."""
    tail = f".cloudfs-{node.ino}"
    return f".{node.s_name}".encode()[: _NAME_ASIDE_BYTES - len(tail)].decode(errors="ignore") + tail


_NAME_ASIDE_BYTES = 240
