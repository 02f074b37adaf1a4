"""What a DAV URL points at."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import Request
from tests.servers.standin.names import Segments, is_part, quote, split_destination
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.users import User

DAV_ROOT = "/remote.php/dav/"
LEGACY_ROOT = "/remote.php/webdav/"


@dataclass(frozen=True)
class Location:
    """A place in one account's files, existing or not."""

    user: User
    path: Segments
    href_base: str
    """The href of the account's root, with its trailing slash."""
    dav_base: str
    """The same as SabreDAV names it in messages."""

    @property
    def dav_path(self) -> str:
        """The path as SabreDAV names it in messages."""
        return "/".join(part for part in (self.dav_base, *self.path) if part)

    def href(self, path: Segments | None = None) -> str:
        """Percent-encoded URL path, without a trailing slash for members."""
        return self.href_base + quote("/".join(self.path if path is None else path))

    def node(self) -> Node | None:
        """What is there now."""
        return self.user.tree.lookup(self.path)

    def existing(self) -> Node:
        """The node, or 404."""
        node: Node | None = self.user.tree.root
        for depth, name in enumerate(self.path):
            assert node is not None
            if node.children is None or is_part(self.path[:depth]):
                raise DavError(404, f"Could not find node at path: {self.dav_path}")
            node = node.children.get(name)
            if node is None:
                raise not_located(self.path[: depth + 1])
        assert node is not None
        return node

    @property
    def is_part(self) -> bool:
        """Whether this is a phantom (protocol.md §0 rule 12)."""
        return is_part(self.path)

    def parent(self) -> Location:
        """The folder above."""
        return Location(self.user, self.path[:-1], self.href_base, self.dav_base)


def not_located(path: Segments) -> DavError:
    """404 as Nextcloud's folders word it; a member of the root gets two slashes."""
    return DavError(
        404, f"File with name {'/' if len(path) == 1 else ''}/{'/'.join(path)} could not be located"
    )


def files_location(site: Site, user_segment: str, path: Segments) -> Location:
    """The location of ``files/USER/path``; the user id is matched in any case (protocol.md §1)."""
    user = site.users.get(user_segment)
    if user is None:
        raise DavError(404, f"Principal with name {user_segment} not found")
    return Location(user, path, f"{DAV_ROOT}files/{quote(user_segment)}/", f"files/{user_segment}")


def destination_path(request: Request) -> str:
    """The raw path of the Destination header: its host is not looked at (protocol.md §9)."""
    value = request.header("destination")
    if not value:
        raise DavError(400, "The destination header was not supplied")
    return urlsplit(value).path


def below(raw_path: str, root: str) -> Segments:
    """Segments below one of the DAV roots; 403 outside of it."""
    if not (raw_path + "/").startswith(root):
        raise DavError(403, f"Requested uri ({raw_path}) is out of base uri ({root})")
    return split_destination(raw_path[len(root) :])
