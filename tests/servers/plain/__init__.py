"""WebDAV servers that nobody here wrote, over a temporary folder, on a free port of the loopback."""

from tests.servers.plain.apache import ApacheServer
from tests.servers.plain.base import PlainServer, ServerUnavailable
from tests.servers.plain.rclone import RcloneServer
from tests.servers.plain.wsgidav import WsgidavServer

__all__ = ["ApacheServer", "PlainServer", "RcloneServer", "ServerUnavailable", "WsgidavServer"]
