"""Another client: edits to an account's files that do not go through HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.standin.names import Segments, split_local
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.users import User


class Account:
    """One account of the stand-in.

    Paths are plain (``/docs/a.txt``); every edit changes ids, ETags and sizes exactly as the same edit over HTTP
    would. Locks and permissions are not asked.
    """

    def __init__(self, site: Site, user: User) -> None:
        self._site = site
        self._user = user
        self._tree = user.tree

    @property
    def id(self) -> str:
        """The user id."""
        return self._user.id

    @property
    def password(self) -> str:
        """The login password."""
        return self._user.password

    def app_password(self) -> str:
        """Mint a new app password."""
        return self._site.users.mint(self._user)

    def revoke(self, app_password: str) -> None:
        """Make an app password, and the sessions begun with it, invalid."""
        self._site.users.revoke(self._user, app_password)

    def mark_for_wipe(self, app_password: str) -> None:
        """Have the device of an app password wiped: it opens nothing any more (protocol.md §11)."""
        self._site.users.mark_for_wipe(self._user, app_password)

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mtime: int | None = None,
        checksum: str | None = None,
        parents: bool = True,
    ) -> str:
        """Create or overwrite a file; returns its ETag (unquoted). Missing parents are made."""
        segments = split_local(path)
        blob = self._site.blobs.of(data)
        with self._tree.lock:
            if parents:
                self.mkdir("/".join(segments[:-1]))
            node = self._tree.lookup(segments)
            now = self._tree.now()
            if node is None:
                node = self._tree.create_file(
                    self._folder(segments[:-1]), segments[-1], blob, upload_time=now
                )
            else:
                self._tree.overwrite(node, blob, upload_time=now)
            if mtime is not None:
                self._tree.touch(node, mtime)
            node.checksum = checksum
            return node.etag

    def read(self, path: str) -> bytes:
        """A file's content."""
        with self._tree.lock:
            blob = self._node(path).blob
        return blob.read()

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return self._tree.lookup(split_local(path)) is not None

    def is_written(self, path: str) -> bool:
        """Whether a body is just coming in for it, which locks it (protocol.md §14)."""
        return self._user.locks.is_written(split_local(path))

    def node(self, path: str) -> Node:
        """The node itself: id, ETag, mtime, checksum, … to look at."""
        return self._node(path)

    def tree(self, path: str = "/") -> dict[str, bytes | None]:
        """Everything below a folder: path relative to it to content, ``None`` for folders."""
        with self._tree.lock:
            top = self._node(path)
            depth = len(top.segments())
            nodes = [(node.segments()[depth:], node) for node in top.walk() if node is not top]
            return {"/".join(names): None if node.is_folder else node.blob.read() for names, node in nodes}

    def mkdir(self, path: str) -> None:
        """Make a folder and its parents; existing ones stay."""
        with self._tree.lock:
            folder = self._tree.root
            for name in split_local(path):
                assert folder.children is not None, f"{folder.name} is a file"
                folder = folder.children.get(name) or self._tree.mkdir(folder, name)

    def populate(self, tree: Mapping[str, bytes | None], at: str = "/") -> None:
        """Write many files (``bytes``) and folders (``None``) by path."""
        for path, data in tree.items():
            if data is None:
                self.mkdir(f"{at}/{path}")
            else:
                self.write(f"{at}/{path}", data)

    def adopt(self, folder: Path, at: str = "/") -> None:
        """Serve the files of a local folder, with their mtimes.

        Their bytes stay where they are and never change: a file that is overwritten gets its new content elsewhere.
        """
        with self._tree.lock:
            self.mkdir(at)
            for source in sorted(folder.rglob("*")):
                target = split_local(at) + source.relative_to(folder).parts
                if source.is_dir():
                    self.mkdir("/".join(target))
                elif source.is_file():
                    blob = self._site.blobs.adopted(source)
                    node = self._tree.create_file(self._folder(target[:-1]), target[-1], blob)
                    self._tree.touch(node, max(1, int(source.stat().st_mtime)))

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with everything in it."""
        with self._tree.lock:
            self._tree.remove(self._node(path))

    def restore(self, path: str) -> None:
        """Put back what was removed from a path, from the trash, with its ids."""
        with self._tree.lock:
            original = split_local(path)
            names = [name for name, it in self._tree.trash.items() if it.original == original]
            self._tree.restore(names[-1])

    def empty_trash(self) -> None:
        """Remove what is in the trash for good."""
        with self._tree.lock:
            self._tree.trash.clear()

    def move(self, path: str, to: str) -> None:
        """Rename; what is at the destination is removed first."""
        segments = split_local(to)
        with self._tree.lock:
            node, target = self._node(path), self._tree.lookup(segments)
            if target is not None:
                self._tree.remove(target)
            self._tree.move(node, self._folder(segments[:-1]), segments[-1])

    def copy(self, path: str, to: str) -> None:
        """Copy; nothing may be at the destination."""
        segments = split_local(to)
        with self._tree.lock:
            self._tree.copy(self._node(path), self._folder(segments[:-1]), segments[-1])

    def show_again(self, path: str, again: str) -> None:
        """Show a file at a second place too, as when it is shared both by itself and in a folder (protocol.md §3.3)."""
        segments = split_local(again)
        with self._tree.lock:
            node = self._node(path)
            twin = self._tree.create_file(self._folder(segments[:-1]), segments[-1], node.blob)
            twin.file_id, twin.inode, twin.etag, twin.mtime = node.file_id, node.inode, node.etag, node.mtime

    def touch(self, path: str, mtime: int) -> None:
        """Set the mtime."""
        with self._tree.lock:
            self._tree.touch(self._node(path), mtime)

    def set_favorite(self, path: str, *, favorite: bool = True) -> None:
        """Mark or unmark; no ETag changes (protocol.md §3.1)."""
        self._node(path).favorite = favorite

    def set_listed_size(self, path: str, size_bytes: int) -> None:
        """Have a file listed with this size; -1 in a storage that is yet to be looked through."""
        self._node(path).size_bytes = size_bytes

    def annotate(
        self,
        path: str,
        *,
        system_tags: Sequence[str] = (),
        sharees: Sequence[tuple[str, int]] = (),
        comments: int = 0,
    ) -> None:
        """Set what others attach to a node; no ETag changes. Sharees are names with the kind of their share."""
        node = self._node(path)
        node.system_tags, node.sharees, node.comments = list(system_tags), list(sharees), comments

    def set_permissions(self, path: str, letters: str | None) -> None:
        """Set ``oc:permissions`` of a node and of everything below it.

        ``"SG"`` is a read-only share, ``"SRGDNVWCK"`` a writable one, ``None`` takes them back. As when a share is
        edited, only the ETags of the folders above it change (§3.1).
        """
        with self._tree.lock:
            node = self._node(path)
            node.permissions = letters
            self._tree.propagate(node.parent or node)

    def share_root(self, path: str, letters: str) -> None:
        """Make a node the root of a received share, whose content has these letters: ``"SG"`` is read-only.

        The root itself may be renamed, moved and left all the same, and its letters flap by the way they are asked for
        (protocol.md §2.2).
        """
        self._node(path).mounted = True
        self.set_permissions(path, letters)

    def set_quota(self, limit_bytes: int | None) -> None:
        """Limit the account; ``None`` lifts the limit."""
        self._user.quota_bytes = limit_bytes

    def set_two_factor(self, *, enabled: bool = True) -> None:
        """Refuse the login password from now on, as with 2FA (§11)."""
        self._user.two_factor = enabled

    @property
    def uploads(self) -> dict[str, dict[str, int]]:
        """Upload folders that are open: chunk sizes by name by upload id (§7)."""
        with self._tree.lock:
            return {
                name: {chunk: blob.size_bytes for chunk, blob in upload.chunks.items()}
                for name, upload in self._user.uploads.items()
            }

    def cut_chunk(self, name: str, size_bytes: int) -> None:
        """Leave only the beginning of a chunk, in every open upload that has one of that name."""
        with self._tree.lock:
            for upload in self._user.uploads.values():
                if name in upload.chunks:
                    upload.chunks[name] = self._site.blobs.of(upload.chunks[name].read()[:size_bytes])

    def rename_chunk(self, old: str, new: str) -> None:
        """Give a chunk another name, in every open upload that has one of that name."""
        with self._tree.lock:
            for upload in self._user.uploads.values():
                if old in upload.chunks:
                    upload.chunks[new] = upload.chunks.pop(old)
                    upload.chunk_etags[new] = upload.chunk_etags.pop(old)

    def expire_uploads(self) -> None:
        """Remove all upload folders, as the background job does after a day (§7)."""
        with self._tree.lock:
            self._user.uploads.clear()

    def _node(self, path: str) -> Node:
        node = self._tree.lookup(split_local(path))
        if node is None:
            raise FileNotFoundError(path)
        return node

    def _folder(self, segments: Segments) -> Node:
        node = self._tree.lookup(segments)
        if node is None or not node.is_folder:
            raise NotADirectoryError("/".join(segments))
        return node
