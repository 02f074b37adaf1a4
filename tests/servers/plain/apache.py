"""Apache with mod_dav and mod_dav_fs, by a configuration of its own: never the system's service."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Template

from tests.servers.plain.base import ProcessServer, ServerUnavailable, program

_MODULE_FOLDERS = (
    Path("/usr/lib/apache2/modules"),
    Path("/usr/lib64/httpd/modules"),
    Path("/usr/libexec/apache2"),
)
_MODULES = (
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "dav",
    "dav_fs",
)
_ACCOUNT = "www-data"
"""Apache refuses to serve as root and becomes this one."""

_CONFIGURATION = Template(
    """
ServerRoot "$folder"
ServerName 127.0.0.1
Listen 127.0.0.1:$port
PidFile "$folder/apache.pid"
ErrorLog "$folder/error.log"
DocumentRoot "$root"
$modules
$identity
DavLockDB "$folder/locks/davlock"
EnableSendfile Off
<Directory "$root">
    Dav On
    AuthType Basic
    AuthName "plain"
    AuthUserFile "$folder/passwords"
    Require valid-user
</Directory>
"""
)


class ApacheServer(ProcessServer):
    """Debian's apache2."""

    def command(self) -> tuple[Sequence[str], dict[str, str]]:
        """In the foreground."""
        binary = program("apache2", "/usr/sbin")
        modules = next((folder for folder in _MODULE_FOLDERS if (folder / "mod_dav_fs.so").exists()), None)
        if modules is None:
            raise ServerUnavailable("mod_dav_fs")
        locks = self.folder / "locks"
        locks.mkdir(exist_ok=True)
        digest = hashlib.sha1(self.password.encode(), usedforsecurity=False).digest()
        (self.folder / "passwords").write_text(f"{self.user}:{{SHA}}{base64.b64encode(digest).decode()}\n")
        as_root = os.geteuid() == 0
        configuration = self.folder / "apache.conf"
        configuration.write_text(
            _CONFIGURATION.substitute(
                folder=self.folder,
                root=self.root,
                port=self.port,
                modules="\n".join(f'LoadModule {name}_module "{modules}/mod_{name}.so"' for name in _MODULES),
                identity=f"User {_ACCOUNT}\nGroup {_ACCOUNT}" if as_root else "",
            )
        )
        if as_root:
            self.folder.chmod(0o755)
            for path in (self.root, locks):
                self.hand_over(path)
        return [binary, "-d", str(self.folder), "-f", str(configuration), "-DFOREGROUND"], {}

    def hand_over(self, path: Path) -> None:
        """Give what root made to Apache's account."""
        if os.geteuid() == 0:
            shutil.chown(path, _ACCOUNT, _ACCOUNT)
