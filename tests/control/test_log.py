"""What the log must never hold, and where it goes."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs import log
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


@pytest.mark.expect_log("two")
def test_the_journal_gets_priorities_and_no_times(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(file=None, environ={"JOURNAL_STREAM": "8:1"})
    logging.getLogger("cloudfs.x").warning("two\nlines")
    logging.getLogger("cloudfs.x").debug("not shown")
    assert capsys.readouterr().err == "<4>cloudfs.x: two\n<4>lines\n"


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
