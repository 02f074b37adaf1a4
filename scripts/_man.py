"""The manual page cloudfs(1), made from the commands, their examples, and the tables of README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from cloudfs.cli.examples import EXAMPLES
from cloudfs.cli.main import app

__all__ = ["page"]

_README = Path(__file__).parents[1] / "README.md"

_HEAD = r""".\" Made by scripts/man: edit the commands' help, their examples, or README.md instead.
.TH CLOUDFS 1 "" "cloudfs" "User Commands"
.SH NAME
cloudfs \- a Nextcloud account, or any WebDAV server, as an ordinary folder
.SH SYNOPSIS
.B cloudfs
.I COMMAND
.RI [ ARGUMENTS ]
.SH DESCRIPTION
Everything on the server is visible at once. Nothing is downloaded before it is read, and then only the parts that are
read. Every change is on the local disk before
.BR close (2)
returns, and on the server soon after, without anybody waiting.
.PP
Where a command takes an account it may be left out if there is only one, or only one that is mounted.
.SH COMMANDS
"""

_TAIL = r""".SH ENVIRONMENT
.TP
.B CLOUDFS_HOME
A folder, by its full path, below which everything is kept instead of the places named below; where there is no keyring
the password, too, without a question.
.TP
.BR XDG_CONFIG_HOME ", " XDG_STATE_HOME ", " XDG_CACHE_HOME ", " XDG_RUNTIME_DIR
As in the XDG base directory specification.
.TP
.BR HTTPS_PROXY ", " HTTP_PROXY ", " ALL_PROXY ", " NO_PROXY
Proxies, as for other programs.
.TP
.B NO_COLOR
Set to anything: no colours. There are none in any case where the output is no terminal.
.TP
.B CLOUDFS_DEBUG
Set to anything: an unexpected failure of a command shows where it happened.
.SH FILES
.TP
.I ~/.config/cloudfs/accounts/NAME.toml
An account and its settings: docs/CONFIG.md lists every key.
.TP
.I ~/.local/state/cloudfs/NAME/
The database, changes on their way, the log; the app password where there is no keyring.
Not to be deleted: pending changes are only there.
.TP
.I ~/.cache/cloudfs/NAME/
Cached contents; may be deleted while not mounted.
.TP
.I $XDG_RUNTIME_DIR/cloudfs/NAME.sock
The control socket: docs/CONTROL.md describes it for other programs.
.TP
.I ~/.config/systemd/user/cloudfs@.service
The systemd unit, where
.B cloudfs service install
has put it.
.SH SEE ALSO
.BR fusermount3 (1),
.BR systemctl (1),
.BR journalctl (1)
"""


def page() -> str:
    """Return the page in roff."""
    commands = typer.main.get_command(app)
    parts = [_HEAD, *(_command(path, it) for path, it in _all(commands)), _exit_codes(), _TAIL]
    return "".join(parts)


def _all(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # typer's own click, or click's
    members = getattr(command, "commands", {})
    if not members:
        yield path, command
    for name, it in members.items():
        yield from _all(it, f"{path} {name}".strip())


def _command(path: str, command: Any) -> str:  # noqa: ANN401  # as above
    arguments = [it for it in command.params if it.param_type_name == "argument"]
    options = [it for it in command.params if it.param_type_name == "option"]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(_shown(it) for it in arguments)])
    lines = [f".SS {_roff(usage)}\n"]
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        lines += [_roff(" ".join(paragraph.split())), "\n.PP\n"]
    lines.pop()
    lines.append("\n")
    for it in (*arguments, *options):
        lines += [".TP\n", f".B {_roff(_named(it))}\n", f"{_roff(' '.join((it.help or '').split()))}\n"]
    lines += [".PP\nExamples:\n.PP\n.nf\n", *(f"    {_roff(line)}\n" for line in EXAMPLES[path]), ".fi\n"]
    return "".join(lines)


def _shown(argument: Any) -> str:  # noqa: ANN401  # as above
    return str(argument.metavar or (argument.name or "").upper())


def _named(parameter: Any) -> str:  # noqa: ANN401  # as above
    if parameter.param_type_name == "argument":
        return _shown(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    choices = "|".join(map(str, getattr(parameter.type, "choices", ())))
    return f"{names} {choices or parameter.metavar or 'VALUE'}"


def _exit_codes() -> str:
    rows = re.findall(r"^\| (\d+) \| [A-Z_]+ \| (.*) \|$", _README.read_text(encoding="utf-8"), re.MULTILINE)
    return ".SH EXIT STATUS\n" + "".join(
        f".TP\n.B {code}\n{_roff(text.replace('`', ''))}\n" for code, text in rows
    )


def _roff(text: str) -> str:
    """Write text so that nothing in it is a request or an escape."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("`", "")
    return f"\\&{plain}" if plain[:1] in {".", "'"} else plain


if __name__ == "__main__":
    print(page(), end="")
