"""A graphical session without a screen, a real file manager in it, and what its window shows.

Nobody looks and nothing is typed: the window's contents come from the file manager itself, over the accessibility
bus (AT-SPI), as a screen reader gets them. SOURCE: at-spi2-core, xml/Accessible.xml.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from jeepney import DBusAddress, DBusErrorResponse, Properties, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from cloudfs.fuse.watchers import watched_inodes
from tests.tooling.needs import find_program, missing

PROGRAMS = ("Xvfb", "dbus-daemon", "thunar")
AT_SPI = Path("/usr/libexec/at-spi-bus-launcher")
PATIENCE_S = 60
"""Only what never happens takes so long."""
SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="thunar" version="1.0">
  <property name="default-view" type="string" value="ThunarDetailsView"/>
  <property name="last-side-pane" type="string" value="void"/>
</channel>
"""
_COLUMNS = 4
"""Of Thunar's details: name, size, type, time."""
_ACCESSIBLE = "org.a11y.atspi.Accessible"
_ROOT = ("org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root")


class FileManager:
    """Thunar with one folder open, on an X server and a session bus of its own."""

    def __init__(self, folder: Path) -> None:
        for program in PROGRAMS:
            if find_program(program) is None:
                missing(f"the program {program} (scripts/setup --tests installs it)")
        if not AT_SPI.exists():
            missing(f"{AT_SPI} (scripts/setup --tests installs it)")
        self._folder = folder
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            # Not below pytest's folder: a socket's path has 107 bytes at most.
            home = Path(tempfile.mkdtemp(prefix="cloudfs-desktop-"))
            ending.callback(shutil.rmtree, home, ignore_errors=True)  # its programs may still be writing
            settings = home / ".config/xfce4/xfconf/xfce-perchannel-xml/thunar.xml"
            settings.parent.mkdir(parents=True)
            settings.write_text(SETTINGS)
            environ = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
            environ |= {"LC_ALL": "C.UTF-8", "GIO_USE_VFS": "local"}
            environ["DISPLAY"] = ending.enter_context(_x_server(environ))
            environ["DBUS_SESSION_BUS_ADDRESS"] = ending.enter_context(_session_bus(environ))
            ending.enter_context(_program(["thunar", str(self._folder)], environ))
            self._bus = ending.enter_context(_accessibility_bus(environ["DBUS_SESSION_BUS_ADDRESS"]))
            status = self._folder.stat()
            self._wait(lambda: status.st_ino in watched_inodes(status.st_dev), lambda: "it watches nothing")
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def shows(self, expected: dict[str, str]) -> None:
        """Wait until the window shows these names and no others, each with its size in Thunar's words."""
        self._wait(lambda: self.names() == expected, lambda: f"it shows {self.names()}")

    def names(self) -> dict[str, str]:
        """Return the names and sizes that the window shows at this moment."""
        for table in self._find(_ROOT, "table"):
            cells = [child for child in self._children(table) if self._role(child) == "table cell"]
            rows = zip(cells[::_COLUMNS], cells[1::_COLUMNS], strict=False)  # it may just be changing
            return {self._text(name): self._text(size) for name, size in rows}
        return {}

    def _wait(self, condition: Callable[[], bool], found: Callable[[], str]) -> None:
        deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
        while time.monotonic() < deadline:
            with contextlib.suppress(DBusErrorResponse):  # what was just shown may be gone when it is asked
                if condition():
                    return
            pause.wait(0.05)
        raise AssertionError(f"waited {PATIENCE_S} s in vain for the file manager: {found()}")

    def _find(self, start: tuple[str, str], role: str) -> Iterator[tuple[str, str]]:
        if self._role(start) == role:
            yield start
            return
        for child in self._children(start):
            yield from self._find(child, role)

    def _text(self, cell: tuple[str, str]) -> str:
        """Return a cell's text; the one of an icon and a name is their parent's."""
        return self._name(cell) or "".join(map(self._name, self._children(cell)))

    def _name(self, it: tuple[str, str]) -> str:
        (found,) = self._ask(Properties(_address(it)).get("Name"))
        return str(found[1])

    def _role(self, it: tuple[str, str]) -> str:
        return str(self._ask(new_method_call(_address(it), "GetRoleName"))[0])

    def _children(self, it: tuple[str, str]) -> list[tuple[str, str]]:
        return list(self._ask(new_method_call(_address(it), "GetChildren"))[0])

    def _ask(self, message: Any) -> tuple[Any, ...]:
        return _ask(self._bus, message)


def _address(it: tuple[str, str]) -> DBusAddress:
    name, path = it
    return DBusAddress(path, name, _ACCESSIBLE)


def _ask(bus: DBusConnection, message: Any) -> tuple[Any, ...]:
    """Return the body of the reply; raises DBusErrorResponse, among others where what is asked is gone."""
    body = unwrap_msg(bus.send_and_get_reply(message, timeout=PATIENCE_S))
    assert isinstance(body, tuple)
    return body


@contextlib.contextmanager
def _program(command: list[str], environ: dict[str, str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the end of the block, and whatever it started (a session bus starts what is asked for)."""
    process = subprocess.Popen(command, env=environ, start_new_session=True, text=True, **more)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


@contextlib.contextmanager
def _x_server(environ: dict[str, str]) -> Iterator[str]:
    """Run an X server without a screen; yields its DISPLAY, a free one, when it answers."""
    reading, writing = os.pipe()
    # Without -noreset it begins anew when its only client goes, and turns away who comes meanwhile.
    command = [
        "Xvfb",
        "-displayfd",
        str(writing),
        "-noreset",
        "-nolisten",
        "tcp",
        "-screen",
        "0",
        "1000x700x24",
    ]
    with os.fdopen(reading) as number, contextlib.ExitStack() as ending:
        with os.fdopen(writing):
            ending.enter_context(_program(command, environ, pass_fds=[writing], stderr=subprocess.DEVNULL))
        yield ":" + number.readline().strip()


@contextlib.contextmanager
def _session_bus(environ: dict[str, str]) -> Iterator[str]:
    command = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    with _program(command, environ, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout
        with daemon.stdout as address:
            yield address.readline().strip()


def _accessibility_bus(session_bus: str) -> AbstractContextManager[DBusConnection]:
    """Connect to the bus on which programs describe their windows; the session bus starts it when it is asked for."""
    launcher = DBusAddress("/org/a11y/bus", "org.a11y.Bus", "org.a11y.Bus")
    with open_dbus_connection(session_bus) as session:
        (address,) = _ask(session, new_method_call(launcher, "GetAddress"))
    return open_dbus_connection(address)
