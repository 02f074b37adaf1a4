"""The manual page says what the commands say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cloudfs.cli.examples import EXAMPLES
from scripts._man import page

PAGE = Path(__file__).parents[2] / "docs/cloudfs.1"


def test_it_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run scripts/man"


def test_it_has_every_command_and_exit_code() -> None:
    text = page().replace("\\-", "-")
    assert [name for name in EXAMPLES if f".SS {name}" not in text] == []
    assert ".B 23\n" in text


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_man_has_nothing_to_complain_of() -> None:
    done = subprocess.run(
        ["man", "--warnings=all", "--local-file", str(PAGE)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "200"},
    )
    assert done.stderr == ""
    assert "cloudfs cache clear work --force" in done.stdout
