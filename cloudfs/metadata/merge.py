"""A folder's listing from the server, and our nodes, become changes to take over. Pure.

The rules, per name of the listing and per node that the server had there:

- Clean here: the server's word is taken over; what it no longer has is dropped.
- Dirty here: nothing is taken over. What was seen is kept as an observation, and the write-back worker
  settles it with preconditions; both contents survive (docs/SEMANTICS.md, conflicts).
- Touched by a step of ours since the listing was asked for: ignored, the step's own result is newer.

A node is recognised by file id within the folder, else by name and kind. A folder that was moved or removed here is not
recognised in another one of its name: our step would move or remove what nobody here has seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from cloudfs.store.records import Node
from cloudfs.types import Kind, RemoteEntry

__all__ = ["Add", "Adopt", "Change", "Drop", "Observe", "Refresh", "Rename", "merge_folder", "update"]


class Add(msgspec.Struct, frozen=True, gc=False):
    """The server has a name that we did not know."""

    entry: RemoteEntry


class Adopt(msgspec.Struct, frozen=True, gc=False):
    """A folder made on both sides is one folder."""

    node: Node
    entry: RemoteEntry


class Refresh(msgspec.Struct, frozen=True, gc=False):
    """A node's synced view takes over an entry; `content` when its bytes are other ones."""

    node: Node
    entry: RemoteEntry
    content: bool


class Rename(msgspec.Struct, frozen=True, gc=False):
    """A clean node has another name in the same folder."""

    node: Node
    entry: RemoteEntry


class Drop(msgspec.Struct, frozen=True, gc=False):
    """The server no longer has a node; dirty ones below or itself become new ones."""

    node: Node


class Observe(msgspec.Struct, frozen=True, gc=False):
    """The server's side of a dirty node changed; None: it is gone."""

    node: Node
    entry: RemoteEntry


Change = Add | Adopt | Refresh | Rename | Drop | Observe


def merge_folder(
    members: Iterable[RemoteEntry],
    synced: Sequence[Node],
    local: Mapping[str, Node],
    touched: Collection[str] = frozenset(),
) -> list[Change]:
    """Return the changes that bring our view of one folder up to a listing of it.

    `synced`: the nodes that the server had in the folder; `local`: what the mount shows in it, by name;
    `touched`: names that steps of ours changed on the server since the listing was asked for.
    """
    entries = {entry.name: entry for entry in members if entry.name not in touched}
    before = {node.s_name or "": node for node in synced if node.s_name not in touched}
    renamed = _renamed(entries, before)
    gone_names = {node.s_name for node in renamed.values()}
    changes: list[Change] = []
    # Names are given up before others take them, so that the database's unique index holds at every moment.
    for name, node in before.items():
        if name in gone_names:
            continue
        entry = entries.get(name)
        if entry is None or _is_another(node, entry):
            changes.append(Drop(node))
        elif name not in renamed:
            changes += update(node, entry)
    changes += [Rename(node, entries[name]) for name, node in renamed.items()]
    for name, entry in entries.items():
        kept = before.get(name)
        replaced = kept is not None and (name in gone_names or _is_another(kept, entry))
        if (kept is None or replaced) and name not in renamed:
            changes += _appeared(entry, None if replaced else local.get(name))
    return changes


def _is_another(node: Node, entry: RemoteEntry) -> bool:
    """Tell whether what has a node's name on the server now is something else.

    By file id only of folders with work of ours: where a storage was scanned anew all ids are others (and files get
    another one with each save by rename).
    """
    if entry.kind is not node.kind:
        return True
    leaves = bool(node.folder) and not node.placed
    return leaves and None not in {node.s_file_id, entry.file_id} and node.s_file_id != entry.file_id


def _renamed(entries: Mapping[str, RemoteEntry], before: Mapping[str, Node]) -> dict[str, Node]:
    """Find clean nodes that stand under a free new name, by file id: new name -> node."""
    vanished = {
        node.s_file_id: node
        for name, node in before.items()
        if name not in entries and node.s_file_id and node.placed
    }
    renamed: dict[str, Node] = {}
    for name, entry in entries.items():
        file_id = entry.file_id or ""
        node = vanished.get(file_id)
        if node is not None and name not in before and entry.kind is node.kind:
            # Only one of two names: a file that is shared twice has two places at once (protocol.md §3.3).
            renamed[name] = node
            del vanished[file_id]
    return renamed


def update(node: Node, entry: RemoteEntry) -> list[Change]:
    """Return what a listing's entry changes in the node that it is about; their names agree."""
    if node.kind is Kind.FOLDER:
        # A folder's tombstone or move stays pending; its ETag is no content of its own.
        return [Refresh(node, entry, content=False)] if _folder_differs(node, entry) else []
    if node.remote_version.same_content(entry.version):
        return [Refresh(node, entry, content=False)] if _details_differ(node, entry) else []
    if node.content_dirty or not node.linked:
        return [Observe(node, entry)]
    return [Refresh(node, entry, content=True)]


def _folder_differs(node: Node, entry: RemoteEntry) -> bool:
    return (node.s_etag, node.s_modified_s) != (
        entry.version.etag,
        entry.version.modified_s,
    ) or _details_differ(node, entry)


def _details_differ(node: Node, entry: RemoteEntry) -> bool:
    return (
        node.s_file_id != entry.file_id
        or node.permissions != entry.permissions
        or bool(node.mount_root) != entry.mount_root
        or node.s_spelling != entry.spelling
        or node.remote_version != entry.version
    )


def _appeared(entry: RemoteEntry, local: Node | None) -> list[Change]:
    if local is None:
        return [Add(entry)]
    if local.kind is Kind.FOLDER and entry.kind is Kind.FOLDER and not local.synced:
        return [Adopt(local, entry)]
    # A name taken on both sides by different things: the step that sends ours meets the other and keeps both.
    return []
