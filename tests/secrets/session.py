"""A session bus and a real keyring on it, GNOME's, both of the test alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import secretstorage
from jeepney import DBusAddress, new_method_call, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection
from jeepney.low_level import HeaderFields, MessageType
from jeepney.wrappers import unwrap_msg
from secretstorage.util import add_match_rules, format_secret, open_session

from tests.functional.stages import wait_until
from tests.tooling.needs import find_program, missing

PROGRAMS = ("dbus-daemon", "gnome-keyring-daemon")
PASSWORD = "keyring-Pass-123"
"""Of the keyring itself."""
PATIENCE_S = 60
_GUILT_RIDDEN = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"
"""GNOME's own name for how its other parts unlock it."""
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
"""As a session's, but it starts nothing that is asked for: the keyring is there when the test has started it."""


class Desktop:
    """A session bus. `start_keyring` brings the keyring; it is locked or not, and its content outlives it."""

    def __init__(self) -> None:
        for program in PROGRAMS:
            if find_program(program) is None:
                missing(f"the program {program} (scripts/setup --tests installs it)")
        self._ending = contextlib.ExitStack()
        self._keyring: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            # Not below pytest's folder: a socket's path has 107 bytes at most.
            home = Path(tempfile.mkdtemp(prefix="cloudfs-keyring-"))
            ending.callback(shutil.rmtree, home, ignore_errors=True)
            self.address = f"unix:path={home}/bus"
            self._environ = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
            self._environ |= {"DBUS_SESSION_BUS_ADDRESS": self.address, "LC_ALL": "C.UTF-8"}
            (home / "bus.conf").write_text(_BUS.format(path=home / "bus"))
            command = ["dbus-daemon", f"--config-file={home}/bus.conf", "--nofork", "--print-address"]
            bus = subprocess.Popen(
                command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            ending.callback(_end, bus)
            assert bus.stdout
            with bus.stdout as told:
                told.readline()
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_keyring()
        self._ending.close()

    @property
    def keyring_pid(self) -> int:
        assert self._keyring is not None
        return self._keyring.pid

    def start_keyring(self, *, locked: bool = False) -> None:
        """Start it as a login does: unlocked, with a default collection; locked: as when nobody has logged in."""
        command = ["gnome-keyring-daemon", "--foreground", "--components=secrets"]
        process = subprocess.Popen(
            [*command, *([] if locked else ["--unlock"])],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._keyring = process
        assert process.stdin
        process.stdin.write(b"" if locked else PASSWORD.encode())
        process.stdin.close()
        wait_until(lambda: self.state() in {"locked", "ready"})

    def stop_keyring(self) -> None:
        if self._keyring is not None:
            _end(self._keyring)
            self._keyring = None

    def state(self) -> str:
        """Say how the default collection is."""
        with self._connected() as connection:
            if not Proxy(message_bus, connection).NameHasOwner("org.freedesktop.secrets")[0]:
                return "absent"
            try:
                return "locked" if secretstorage.Collection(connection).is_locked() else "ready"
            except secretstorage.ItemNotFoundException:
                return "empty"

    def lock(self) -> None:
        with self._connected() as connection:
            secretstorage.Collection(connection).lock()
        assert self.state() == "locked"

    def unlock(self) -> None:
        """Give the keyring its password, as a person does at its prompt."""
        with self._connected() as connection:
            path = str(secretstorage.Collection(connection).collection_path)
            address = DBusAddress("/org/freedesktop/secrets", "org.freedesktop.secrets", _GUILT_RIDDEN)
            session = open_session(connection)
            secret = format_secret(session, PASSWORD.encode(), "text/plain")
            call = new_method_call(address, "UnlockWithMasterPassword", "o(oayays)", (path, secret))
            unwrap_msg(connection.send_and_get_reply(call, timeout=PATIENCE_S))
        assert self.state() == "ready"

    def secrets(self) -> dict[str, str]:
        """Return what it has of cloudfs: by user."""
        with self._connected() as connection:
            items = secretstorage.Collection(connection).search_items({"service": "cloudfs"})
            return {item.get_attributes()["username"]: item.get_secret().decode() for item in items}

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Have it answer nothing for the length of the block."""
        os.kill(self.keyring_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.keyring_pid, signal.SIGCONT)

    @contextlib.contextmanager
    def prompter(self) -> Iterator[list[str]]:
        """Be the program that shows the keyring's prompts, to nobody; yields who asked for one."""
        asked: list[str] = []
        with closing(open_dbus_connection(self.address)) as connection:
            Proxy(message_bus, connection).RequestName("org.gnome.keyring.SystemPrompter")
            thread = threading.Thread(target=_note_prompts, args=(connection, asked))
            thread.start()
            try:
                yield asked
            finally:
                with self._connected() as other:
                    other.send(new_method_call(DBusAddress("/", connection.unique_name, "test.End"), "End"))
                thread.join(PATIENCE_S)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[DBusConnection]:
        with closing(open_dbus_connection(self.address)) as connection:
            add_match_rules(connection)
            yield connection


def _note_prompts(connection: DBusConnection, asked: list[str]) -> None:
    """Answer every call, and show nothing; until somebody calls End."""
    while True:
        message = connection.receive()
        if message.header.message_type is not MessageType.method_call:
            continue
        member = message.header.fields[HeaderFields.member]
        if member == "End":
            return
        if member == "BeginPrompting":
            asked.append(message.header.fields[HeaderFields.sender])
        connection.send(new_method_return(message))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(PATIENCE_S)
