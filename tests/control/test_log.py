"""What the log must never hold, and where it goes."""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs import log
from cloudfs.journal import JournalHandler
from cloudfs.log import Redactor, RepeatFilter

SECRET = "s3cr3t/pass word+äß"


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Give pytest its handlers back afterwards."""
    root, own = logging.getLogger(), logging.getLogger("cloudfs")
    handlers, levels = root.handlers[:], (root.level, own.level)
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def line(text: str, *arguments: object) -> str:
    record = logging.LogRecord("cloudfs.x", logging.INFO, __file__, 1, text, arguments, None)
    return Redactor(logging.Formatter("%(message)s"), [SECRET, "", "s3cr3t"]).format(record)


@pytest.mark.parametrize(
    "text",
    [
        f"password {SECRET} refused",
        "at https://h/?p=s3cr3t%2Fpass%20word%2B%C3%A4%C3%9F",
        f"{ {'password': SECRET}!r}",
        "headers {'authorization': 'Basic dXNlcjpwdw=='}",
        "headers [(b'Authorization', b'Basic dXNlcjpwdw==')]",
        "Authorization: Basic dXNlcjpwdw==",
        "Set-Cookie: nc_session=dXNlcjpwdw; path=/",
        "GET https://user:dXNlcjpwdw@host/path",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    shown = line("%s", text)
    assert "s3cr3t" not in shown
    assert "dXNlcjpwdw" not in shown
    assert log.HIDDEN in shown


@pytest.mark.expect_log("failed with")
def test_tracebacks_are_hidden_too(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(file=None, secrets=[SECRET], environ={})
    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("cloudfs.x").exception("failed with %s", SECRET)
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "s3cr3t" not in shown


def test_the_file_is_private_and_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 2000)
    path = tmp_path / "daemon.log"
    path.touch(mode=0o644)
    before = os.umask(0)
    log.set_up(file=path, secrets=[SECRET])
    for number in range(15):
        logging.getLogger(f"cloudfs.x{number}").info("%d %s", number, "x" * 300)
    os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("daemon.log*")} == {0o600}
    assert len(list(tmp_path.glob("daemon.log*"))) > 1


def test_a_planted_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        log.set_up(file=tmp_path / "daemon.log")
    assert not (tmp_path / "elsewhere").exists()


class Journal:
    """What the journal's socket got: messages of fields, as systemd reads them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(30)

    def receive(self) -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for descriptor in descriptors:  # too long for a message: it comes as a file
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return dict(self._fields(data))

    @staticmethod
    def _fields(data: bytes) -> Iterator[tuple[str, str]]:
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack("<Q", data[:8])
                value, data = data[8 : 8 + length], data[8 + length + 1 :]
            yield name.decode(), value.decode()

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


def journal_on_stderr() -> dict[str, str]:
    """Say that stderr leads to the journal. Not a fixture: pytest gives each phase of a test another file for stderr.

    Most often it gets the number of the one before, and another one where some program has just made a file.
    """
    status = os.fstat(2)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    with tempfile.TemporaryDirectory(prefix="cloudfs-journal-") as folder:
        made = Journal(Path(folder))
        monkeypatch.setattr(JournalHandler.__init__, "__defaults__", (made.path,))
        yield made
        made.close()


@pytest.mark.expect_log("two")
def test_the_journal_gets_fields(received: Journal) -> None:
    log.set_up(file=None, account="work", secrets=["s3cr3t"], environ=journal_on_stderr())
    extra = {"path": "/docs/a\nb s3cr3t.txt", "request_id": "ab-7"}
    logging.getLogger("cloudfs.x").warning("two\nlines and s3cr3t", extra=extra)
    logging.getLogger("cloudfs.x").debug("not shown")
    logging.getLogger("cloudfs.x").info("one")
    first, second = received.receive(), received.receive()
    assert first["MESSAGE"] == f"two\nlines and {log.HIDDEN}"
    assert (first["PRIORITY"], second["PRIORITY"]) == ("4", "6")
    assert first["CLOUDFS_PATH"] == f"/docs/a\nb {log.HIDDEN}.txt"
    assert first["CLOUDFS_REQUEST_ID"] == "ab-7"
    assert (first["CLOUDFS_ACCOUNT"], first["SYSLOG_IDENTIFIER"]) == ("work", "cloudfs")
    assert (first["CLOUDFS_LOGGER"], first["CODE_FILE"]) == ("cloudfs.x", __file__)
    assert second["MESSAGE"] == "one"
    assert "CLOUDFS_PATH" not in second


@pytest.mark.expect_log("failed")
def test_the_journal_gets_tracebacks_of_any_length_without_secrets(received: Journal) -> None:
    log.set_up(file=None, environ=journal_on_stderr())
    log.hide("later s3cr3t")
    try:
        raise ValueError("later s3cr3t" + "x" * 1_000_000 + "\udcff")
    except ValueError:
        logging.getLogger("cloudfs.x").exception("failed")
    told = received.receive()
    assert told["MESSAGE"].startswith("failed\nTraceback")
    assert len(told["MESSAGE"]) > 1_000_000
    assert "s3cr3t" not in "".join(told.values())


@pytest.mark.expect_log("two")
def test_without_its_socket_the_journal_gets_lines(
    received: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    received.close()
    log.set_up(file=None, environ=journal_on_stderr())
    logging.getLogger("cloudfs.x").warning("two\nlines")
    assert capfd.readouterr().err == "<4>cloudfs.x: two\n<4>lines\n"


def test_a_journal_that_hangs_holds_up_nobody(received: Journal) -> None:
    log.set_up(file=None, environ=journal_on_stderr())
    for number in range(5000):  # nobody reads them
        logging.getLogger(f"cloudfs.x{number}").info("line")
    assert received.receive()["MESSAGE"] == "line"


@pytest.mark.expect_log("hello")
def test_what_is_not_the_journal_gets_times(received: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    """A child of a unit inherits the variable, and may write elsewhere."""
    del received
    log.set_up(file=None, environ={"JOURNAL_STREAM": "8:1"})
    logging.getLogger("cloudfs.x").warning("hello")
    assert re.fullmatch(r"[-0-9]+ [:,0-9]+ WARNING cloudfs.x: hello\n", capfd.readouterr().err)


def test_no_name_of_a_file_looks_like_another_message(tmp_path: Path) -> None:
    log.set_up(file=tmp_path / "daemon.log")
    logging.getLogger("cloudfs.x").info("%s is here", "/a\n2026-01-01 WARNING x: all is lost\033[2J\u009b")
    (line,) = (tmp_path / "daemon.log").read_text().splitlines()
    assert line.endswith("INFO cloudfs.x: /a\\n2026-01-01 WARNING x: all is lost\\x1b[2J\\x9b is here")


def test_floods_are_kept_back_and_counted() -> None:
    keep = RepeatFilter(burst=3, interval_s=60)
    record = logging.makeLogRecord({"pathname": "a.py", "lineno": 7, "msg": "again"})
    assert [keep.filter(record) for _ in range(10)] == [True] * 3 + [False] * 7
    assert keep.filter(logging.makeLogRecord({"pathname": "a.py", "lineno": 8, "msg": "other"}))


def test_after_the_pause_the_count_is_told() -> None:
    keep = RepeatFilter(burst=1, interval_s=0)
    keep._interval_s = 60
    record = logging.makeLogRecord({"pathname": "a.py", "lineno": 7, "msg": "again"})
    for _ in range(5):
        keep.filter(record)
    keep._interval_s = 0
    assert keep.filter(record)
    assert record.msg == "again (4 more like this were kept back)"


def test_what_pyfuse3_calls_an_error_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(file=None, environ={})
    logging.getLogger("pyfuse3").error("fuse_release(): fuse_reply_* failed with %s", "ENOENT")
    logging.getLogger("pyfuse3").error("something else")
    assert "fuse_reply" not in capsys.readouterr().err
