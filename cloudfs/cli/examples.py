"""Examples for each command, as its help and the manual page show them. A test runs each through the command line."""

from __future__ import annotations

from collections.abc import Iterable

import typer

__all__ = ["EXAMPLES", "show_in_help"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "login": (
        "cloudfs login https://cloud.example.org",
        "cloudfs login https://dav.example.org/files --user zoe",
        "cloudfs login https://cloud.example.org --user zoe --password-stdin --secret-store file < password.txt",
        "cloudfs login --account work",
    ),
    "logout": ("cloudfs logout", "cloudfs logout work --discard-changes"),
    "accounts": ("cloudfs accounts", "cloudfs accounts --json"),
    "mount": (
        "cloudfs mount ~/Cloud",
        "cloudfs mount work ~/Work",
        "cloudfs mount --metrics 9133 ~/Cloud",
    ),
    "unmount": (
        "cloudfs unmount ~/Cloud",
        "cloudfs unmount work --wait --timeout 60",
        "cloudfs unmount --lazy",
    ),
    "sync": ("cloudfs sync --wait", "cloudfs sync --wait ~/Cloud/report.pdf --timeout 30"),
    "status": ("cloudfs status", "cloudfs status work --watch", "cloudfs status --json"),
    "pause": ("cloudfs pause", "cloudfs pause work"),
    "resume": ("cloudfs resume", "cloudfs resume ~/Cloud"),
    "reload": ("cloudfs reload", "cloudfs reload work"),
    "ls": ("cloudfs ls ~/Cloud", "cloudfs ls --json ~/Cloud/Photos"),
    "info": ("cloudfs info ~/Cloud/report.pdf",),
    "pin": (
        "cloudfs pin ~/Cloud/Documents",
        "cloudfs pin --wait --timeout 600 ~/Cloud/Travel",
        "cloudfs pin",
    ),
    "unpin": ("cloudfs unpin ~/Cloud/Documents",),
    "free": ("cloudfs free ~/Cloud/Documents/Videos",),
    "log": ("cloudfs log", "cloudfs log --follow", "cloudfs log work -n 200"),
    "conflicts list": ("cloudfs conflicts", "cloudfs conflicts list --json ~/Cloud"),
    "conflicts keep-mine": ("cloudfs conflicts keep-mine ~/Cloud/doc.txt",),
    "conflicts keep-theirs": ("cloudfs conflicts keep-theirs ~/Cloud/doc.txt",),
    "conflicts keep-both": ("cloudfs conflicts keep-both ~/Cloud/doc.txt ~/Cloud/other.txt",),
    "deletions accept": ("cloudfs deletions accept", "cloudfs deletions accept --side server"),
    "deletions restore": ("cloudfs deletions restore", "cloudfs deletions restore --side here work"),
    "cache info": ("cloudfs cache info", "cloudfs cache info --json"),
    "cache clear": ("cloudfs cache clear", "cloudfs cache clear work --force"),
    "cache verify": ("cloudfs cache verify",),
    "cache encrypt": ("cloudfs cache encrypt work", "cloudfs cache encrypt work --key file"),
    "cache decrypt": ("cloudfs cache decrypt work",),
    "cache rekey": ("cloudfs cache rekey work",),
    "cache lock": ("cloudfs cache lock work",),
    "cache recovered": ("cloudfs cache recovered work --to ~/rescued",),
    "doctor": ("cloudfs doctor", "cloudfs doctor --fix", "cloudfs doctor work --offline --json"),
    "service install": ("cloudfs service install", "cloudfs service install work --at ~/Work"),
    "service enable": ("cloudfs service enable",),
    "service start": ("cloudfs service start work",),
    "service stop": ("cloudfs service stop work",),
    "service status": ("cloudfs service status", "cloudfs service status --json"),
    "service logs": ("cloudfs service logs --follow",),
    "service uninstall": ("cloudfs service uninstall work",),
    "completion": (
        "cloudfs completion bash > ~/.local/share/bash-completion/completions/cloudfs",
        'cloudfs completion zsh > "${fpath[1]}/_cloudfs"',
        "cloudfs completion fish > ~/.config/fish/completions/cloudfs.fish",
    ),
}

FIRST = ("login", "mount", "status", "sync", "doctor", "unmount")
"""What a person begins with."""


def show_in_help(app: typer.Typer) -> None:
    """Have each command's help end with its examples, and a group's with one of each of its commands."""
    for name, command in _commands(app):
        command.epilog = _epilog(EXAMPLES[name])
    for group in app.registered_groups:
        if group.typer_instance is not None:
            members = _commands(group.typer_instance, f"{group.name} ")
            group.typer_instance.info.epilog = _epilog(EXAMPLES[name][0] for name, _ in members)
    app.info.epilog = _epilog(EXAMPLES[name][0] for name in FIRST)


def _epilog(lines: Iterable[str]) -> str:
    # The mark keeps the lines as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _commands(app: typer.Typer, before: str = "") -> list[tuple[str, typer.models.CommandInfo]]:
    found = [
        (before + (it.name or it.callback.__name__), it) for it in app.registered_commands if it.callback
    ]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            found += _commands(group.typer_instance, f"{before}{group.name} ")
    return found
