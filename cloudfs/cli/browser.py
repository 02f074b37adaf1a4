"""The address that a person opens to log in: as text, as a QR code for a telephone, in a browser where there is one."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

import segno

__all__ = ["has_local_screen", "open_browser", "show_address"]

_OPENERS = ("xdg-open", "gio")
_REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
_ON_BLACK, _PLAIN = "\x1b[40;97m", "\x1b[0m"
"""Colours of their own: on a bright terminal the code would be inverted, which many telephones do not read."""


def show_address(url: str) -> None:
    """Print it, and as a QR code where a terminal shows it that can."""
    print(f"Open this address in a browser and agree there, on any device:\n\n  {url}\n")
    if sys.stdout.isatty():
        code = qr_code(url)
        try:
            code.encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            return
        if shutil.get_terminal_size().columns > max(map(len, code.splitlines())):
            print("".join(f"  {_ON_BLACK}{line}{_PLAIN}\n" for line in code.splitlines()), flush=True)


def qr_code(text: str) -> str:
    """Draw a QR code with half blocks, its light parts drawn."""
    drawn = io.StringIO()
    segno.make_qr(text, error="l").terminal(drawn, border=2, compact=True)
    return drawn.getvalue()


def has_local_screen(environ: Mapping[str, str]) -> bool:
    """Tell whether a browser that we start would appear before the person who types.

    Over ssh it would appear elsewhere, or slowly through the connection (DISPLAY then names a host, also where `sudo`
    or a terminal multiplexer has dropped the names that ssh sets).
    """
    if any(environ.get(name) for name in _REMOTE):
        return False
    if environ.get("WAYLAND_DISPLAY"):
        return True
    return environ.get("DISPLAY", "").removeprefix("unix").startswith(":")


def open_browser(url: str, environ: Mapping[str, str] | None = None) -> bool:
    """Have the desktop open an address, in the background; False where there is no desktop, or nothing to open with."""
    environ = os.environ if environ is None else environ
    opener = next(filter(None, (shutil.which(name, path=environ.get("PATH")) for name in _OPENERS)), None)
    if not has_local_screen(environ) or opener is None:
        return False
    command = [opener, "open", url] if opener.endswith("gio") else [opener, url]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(environ),
        )
    except OSError:
        return False
    process.returncode = 0  # a browser may outlive us: Popen must not miss its end
    return True
