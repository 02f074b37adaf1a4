"""What the README states as fact is compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

from cloudfs.errors import ExitCode

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_table_lists_every_exit_code() -> None:
    listed = {
        (name, int(number))
        for number, name in re.findall(r"^\| (\d+) \| ([A-Z_]+) \| \S", README, re.MULTILINE)
    }
    assert listed == {(code.name, code.value) for code in ExitCode}


def test_it_opens_with_the_two_commands() -> None:
    commands = re.findall(r"^    (\S+)", README, re.MULTILINE)
    assert commands[:2] == ["scripts/demo", "scripts/test"]
