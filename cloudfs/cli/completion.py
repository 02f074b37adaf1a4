"""`cloudfs completion`: scripts that complete commands, options, accounts and paths without starting Python.

They are made from the command line itself, so that they know what it knows.
"""

from __future__ import annotations

import sys
from typing import Any, Literal, NamedTuple

import typer.main

__all__ = ["Shell", "script", "words_of"]

Shell = Literal["bash", "zsh", "fish"]


class Option(NamedTuple):
    """One option, by all its names."""

    names: list[str]
    help: str
    takes_value: bool
    choices: list[str]
    takes_file: bool


class Words(NamedTuple):
    """What may follow a command."""

    path: str
    """The command's words after `cloudfs`, "" for none."""
    help: str
    members: list[tuple[str, str]]
    """Commands below it, and what they do."""
    options: list[Option]
    accounts: bool
    files: bool
    choices: list[str]


def script(shell: Shell) -> str:
    """Return the script for a shell."""
    from cloudfs.cli.main import app

    commands = words_of(typer.main.get_command(app))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def show(shell: Shell) -> None:
    """Print it."""
    sys.stdout.write(script(shell))


def words_of(command: Any, path: str = "") -> list[Words]:  # noqa: ANN401  # typer's own click, or click's
    """Return what a command and those below it take."""
    members = getattr(command, "commands", {})
    options = [_option(it) for it in command.params if it.param_type_name == "option"]
    options.append(Option(["-h", "--help"], "Show this message and exit.", False, [], False))  # noqa: FBT003
    arguments = [it for it in command.params if it.param_type_name == "argument"]
    shown = " ".join(str(it.metavar or it.name or "") for it in arguments).upper()
    found = [
        Words(
            path=path,
            help=_first_line(command.help or ""),
            members=[(name, _first_line(it.help or "")) for name, it in members.items()],
            options=[it for it in options if it.names],
            accounts="ACCOUNT" in shown,
            files="PATH" in shown or "POINT" in shown,
            choices=[choice for it in arguments for choice in _choices(it)],
        )
    ]
    for name, it in members.items():
        found += words_of(it, f"{path} {name}".strip())
    return found


def _option(parameter: Any) -> Option:  # noqa: ANN401  # as above
    return Option(
        names=[*parameter.opts, *parameter.secondary_opts],
        help=parameter.help or "",
        takes_value=not parameter.is_flag,
        choices=_choices(parameter),
        takes_file=str(parameter.metavar) in {"FILE", "FOLDER"},
    )


def _choices(parameter: Any) -> list[str]:  # noqa: ANN401  # as above
    return [str(choice) for choice in getattr(parameter.type, "choices", ())]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].partition("\b")[0].rstrip(".")


# --- the shells

_ACCOUNTS = """\
    local folder=${CLOUDFS_HOME:+$CLOUDFS_HOME/config} file
    folder=${folder:-${XDG_CONFIG_HOME:-$HOME/.config}/cloudfs}
"""


def _bash(commands: list[Words]) -> str:
    return f"""# bash completion of cloudfs; made by `cloudfs completion bash`
_cloudfs_accounts() {{
{_ACCOUNTS}\
    for file in "$folder"/accounts/*.toml; do
        [ -e "$file" ] && file=${{file##*/}} && printf '%s\\n' "${{file%.toml}}"
    done
}}

_cloudfs() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path="" words="" options="" more="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${{COMP_WORDS[i]}}" in
            {_known(commands)}) path="$path ${{COMP_WORDS[i]}}" ;;
        esac
    done
    case "$path $before" in
{_bash_values(commands)}    esac
    case "$path" in
{_bash_words(commands)}    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    [[ $more == *accounts* ]] && words="$words $(_cloudfs_accounts)"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [[ $more == *files* ]]; then
        compopt -o filenames 2>/dev/null
        while read -r i; do COMPREPLY+=("$i"); done < <(compgen -f -- "$current")
    fi
}}
complete -F _cloudfs cloudfs
"""


def _known(commands: list[Words]) -> str:
    return " | ".join(f'" {it.path}"' for it in commands if it.path)


def _path(words: Words) -> str:
    return f" {words.path}" if words.path else ""


def _bash_values(commands: list[Words]) -> str:
    lines = []
    for words in commands:
        for option in (it for it in words.options if it.takes_value):
            wanted = " | ".join(f'"{_path(words)} {name}"' for name in option.names)
            if option.choices:
                reply = f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(option.choices)}" -- "$current")'
            elif option.takes_file:
                reply = 'compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current")'
            else:
                reply = "COMPREPLY=()"
            lines.append(f"        {wanted}) {reply}; return ;;\n")
    return "".join(lines)


def _bash_words(commands: list[Words]) -> str:
    lines = []
    for words in commands:
        names = " ".join([*(name for name, _ in words.members), *words.choices])
        options = " ".join(name for option in words.options for name in option.names)
        lines.append(
            f'        "{_path(words)}") words="{names}"; options="{options}"; more="{_more(words)}" ;;\n'
        )
    return "".join(lines)


def _more(words: Words) -> str:
    return " ".join(["accounts"] * words.accounts + ["files"] * words.files)


def _zsh(commands: list[Words]) -> str:
    return f"""#compdef cloudfs
# zsh completion of cloudfs; made by `cloudfs completion zsh`
_cloudfs_accounts() {{
{_ACCOUNTS}\
    local -a found
    found=("$folder"/accounts/*.toml(N:t:r))
    (( $#found )) && compadd -a found
}}

_cloudfs() {{
    local at="" more="" i
    local -a members options
    for ((i = 2; i < CURRENT; i++)); do
        case "$at ${{words[i]}}" in
            ({_known(commands)}) at="$at ${{words[i]}}" ;;
        esac
    done
    case "$at ${{words[CURRENT-1]}}" in
{_zsh_values(commands)}    esac
    case "$at" in
{_zsh_words(commands)}    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe -o option options
        return
    fi
    (( $#members )) && _describe command members
    [[ $more == *accounts* ]] && _cloudfs_accounts
    [[ $more == *files* ]] && _files
    return 0
}}

if [ "$funcstack[1]" = "_cloudfs" ]; then _cloudfs "$@"; else compdef _cloudfs cloudfs; fi
"""


def _zsh_values(commands: list[Words]) -> str:
    lines = []
    for words in commands:
        for option in (it for it in words.options if it.takes_value):
            wanted = " | ".join(f'"{_path(words)} {name}"' for name in option.names)
            reply = "_files" if option.takes_file else f"compadd -- {' '.join(option.choices)}".rstrip()
            if not option.choices and not option.takes_file:
                reply = ":"
            lines.append(f"        ({wanted}) {reply}; return ;;\n")
    return "".join(lines)


def _zsh_words(commands: list[Words]) -> str:
    lines = []
    for words in commands:
        members = [(name, text) for name, text in words.members] + [(choice, "") for choice in words.choices]
        options = [(name, option.help) for option in words.options for name in option.names]
        lines.append(
            f'        ("{_path(words)}") members=({_described(members)}); options=({_described(options)});'
            f' more="{_more(words)}" ;;\n'
        )
    return "".join(lines)


def _described(words: list[tuple[str, str]]) -> str:
    return " ".join(_single(f"{name}:{text}" if text else name) for name, text in words)


def _single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(commands: list[Words]) -> str:
    lines = [
        "# fish completion of cloudfs; made by `cloudfs completion fish`",
        "function __cloudfs_at",
        "    set -l at ''",
        "    for word in (commandline -opc)[2..-1]",
        '        switch "$at $word"',
        f"            case {' '.join(_single(f' {it.path}') for it in commands if it.path)}",
        '                set at "$at $word"',
        "        end",
        "    end",
        '    test "$at" = "$argv[1]"',
        "end",
        "function __cloudfs_accounts",
        "    set -l folder $HOME/.config/cloudfs",
        "    set -q XDG_CONFIG_HOME; and set folder $XDG_CONFIG_HOME/cloudfs",
        "    set -q CLOUDFS_HOME; and set folder $CLOUDFS_HOME/config",
        "    for file in $folder/accounts/*.toml",
        "        string replace -r '\\.toml$' '' (basename $file)",
        "    end",
        "end",
        "complete -c cloudfs -f",
    ]
    for words in commands:
        lines += _fish_words(words)
    return "\n".join(lines) + "\n"


def _fish_words(words: Words) -> list[str]:
    condition = _double(f"__cloudfs_at '{_path(words)}'")
    here = f"complete -c cloudfs -n {condition}"
    lines = [f"{here} -a {name} -d {_single(text)}" for name, text in words.members]
    lines += [f"{here} -a {choice}" for choice in words.choices]
    if words.accounts:
        lines.append(f"{here} -a '(__cloudfs_accounts)'")
    if words.files:
        lines.append(f"{here} -F")
    for option in words.options:
        names = " ".join(
            f"-l {name.removeprefix('--')}" if name.startswith("--") else f"-s {name.removeprefix('-')}"
            for name in option.names
        )
        value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -x"
        if option.takes_file:
            value = " -r -F"
        lines.append(f"{here} {names}{value if option.takes_value else ''} -d {_single(option.help)}")
    return lines


def _double(text: str) -> str:
    return f'"{text}"'
