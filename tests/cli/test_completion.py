"""Completion in the shells themselves, and that every command shows examples that are right."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cloudfs.cli.completion import script, words_of
from cloudfs.cli.examples import EXAMPLES
from cloudfs.cli.main import app
from cloudfs.config import Folders
from tests.cli.conftest import REPOSITORY, Run, add_account


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


def ran(*command: str, cwd: Path | None = None) -> list[str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def bash(tmp_path: Path, *words: str) -> list[str]:
    path = tmp_path / "completion.bash"
    path.write_text(script("bash"))
    line = f"source {path}; COMP_WORDS=({shlex.join(('cloudfs', *words))}); COMP_CWORD={len(words)}; _cloudfs"
    return ran("bash", "-c", f'{line}; printf "%s\\n" "${{COMPREPLY[@]}}"', cwd=tmp_path)


def zsh(tmp_path: Path, *words: str) -> list[str]:
    """With the widgets replaced, which work only while a person types."""
    path = tmp_path / "completion.zsh"
    path.write_text(script("zsh"))
    widgets = (
        "compdef() { :; }; _files() { print -l -- *(N); }; compadd() { [[ $1 == -- ]] && shift && print -l -- $@"
        " || print -l -- ${(P)2}; }; _describe() { print -l -- ${${(P)@[-1]}%%:*}; };"
    )
    line = f"words=({shlex.join(('cloudfs', *words))}); CURRENT={len(words) + 1}; _cloudfs"
    return ran("zsh", "-f", "-c", f"{widgets} source {path}; {line}", cwd=tmp_path)


def fish(tmp_path: Path, *words: str) -> list[str]:
    path = tmp_path / "completion.fish"
    path.write_text(script("fish"))
    line = "cloudfs " + " ".join(words)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {path}; complete -C {shlex.quote(line)}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


SHELLS = [
    pytest.param(bash, marks=needs("bash")),
    pytest.param(zsh, marks=needs("zsh")),
    pytest.param(fish, marks=needs("fish")),
]


@pytest.mark.parametrize("complete", SHELLS)
def test_commands_options_accounts_and_paths(complete: Any, folders: Folders, tmp_path: Path) -> None:
    add_account(folders, "work")
    add_account(folders, "home.net")
    (tmp_path / "place").mkdir()
    # Without what is typed so far zsh leaves the choice to its widgets, which are replaced here.
    assert {"login", "status", "cache"} <= set(complete(tmp_path, ""))
    assert {"info", "clear", "verify", "encrypt", "decrypt", "rekey", "lock", "recovered"} == set(
        complete(tmp_path, "cache", "")
    )
    assert {"--json", "--watch"} <= set(complete(tmp_path, "status", "--"))
    assert {"work", "home.net"} == set(complete(tmp_path, "status", ""))
    assert {"work", "home.net", "place"} <= {it.rstrip("/") for it in complete(tmp_path, "unmount", "")}
    assert {"here", "server"} == set(complete(tmp_path, "deletions", "accept", "--side", ""))
    assert {"bash", "zsh", "fish"} == set(complete(tmp_path, "completion", ""))


@needs("bash")
def test_what_is_typed_narrows_it(tmp_path: Path, folders: Folders) -> None:
    add_account(folders, "work")
    add_account(folders, "home")
    assert bash(tmp_path, "st") == ["status"]
    assert bash(tmp_path, "status", "w") == ["work"]
    assert bash(tmp_path, "service", "status", "--j") == ["--json"]
    assert bash(tmp_path, "login", "--user", "") == []


def test_it_is_printed(run: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "cloudfs" in run("completion", shell).out.splitlines()[0] + run("completion", shell).out
    assert run("completion", "tcsh").code == 2


# --- examples


def commands() -> Iterator[tuple[str, Any]]:
    def below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        members = getattr(command, "commands", {})
        if not members:
            yield path, command
        for name, member in members.items():
            yield from below(member, f"{path} {name}".strip())

    yield from below(typer.main.get_command(app), "")


def test_every_command_has_examples_and_no_example_is_left_over() -> None:
    assert {path for path, _ in commands()} == EXAMPLES.keys()


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_its_examples_are_right(path: str) -> None:
    command = dict(commands())[path]
    for example in EXAMPLES[path]:
        words = shlex.split(example.partition(" > ")[0].partition(" < ")[0])
        assert words[0] == "cloudfs"
        names = path.split()
        if names[-1] == "list" and words[1:3] != names:
            names = names[:-1]  # it may be left out
        assert words[1 : 1 + len(names)] == names
        with command.make_context(path, words[1 + len(names) :]) as context:
            assert context.params is not None


@pytest.mark.parametrize("words", [("status",), ("cache", "clear"), ("conflicts", "list")])
def test_help_shows_them(run: Run, words: tuple[str, ...]) -> None:
    said = run(*words, "--help").out
    assert "Examples:\n" in said
    assert all(f"    {example}\n" in said for example in EXAMPLES[" ".join(words)])


@pytest.mark.parametrize(
    ("words", "example"),
    [((), "cloudfs status"), (("conflicts",), "cloudfs conflicts keep-mine ~/Cloud/doc.txt")],
)
def test_a_group_shows_some_of_its_commands(run: Run, words: tuple[str, ...], example: str) -> None:
    said = run(*words, "--help").out
    assert f"Examples:\n    {EXAMPLES[' '.join((*words, 'list')) if words else 'login'][0]}\n" in said
    assert f"    {example}\n" in said


def test_every_command_says_what_it_does() -> None:
    assert [words.path for words in words_of(typer.main.get_command(app)) if not words.help] == []


# --- the first output comes at once

HEAVY = {"httpx", "trio", "lxml", "pyfuse3", "rich", "pydantic", "diskcache", "sqlite3", "email", "asyncio"}


@pytest.mark.parametrize(
    "words", [("--version",), ("accounts",), ("status",), ("ls", "/"), ("pause",), ("log",)]
)
def test_a_command_that_asks_a_daemon_loads_nothing_large(folders: Folders, words: tuple[str, ...]) -> None:
    """What is loaded decides how long it takes; the time itself depends on the machine."""
    add_account(folders)
    program = (
        "import sys\n"
        f"sys.argv = {['cloudfs', *words]!r}\n"
        "from cloudfs.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('loaded:', *sorted({HEAVY!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
    )
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert loaded - ({"email"} if words == ("--version",) else set()) == set()
