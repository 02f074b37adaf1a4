"""What a state of the connection means to a person, and what can be done about it; told also right after a mount."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Protocol

from cloudfs.cli.common import connect
from cloudfs.cli.output import harmless, waiting
from cloudfs.config import Folders
from cloudfs.control.records import FirstAnswer
from cloudfs.errors import UserError

__all__ = ["Standing", "first_answer", "meaning", "warn", "warning"]

_ANSWER_S = 2.0
"""So long somebody who reads it waits to hear how it stands with the server: a refused login takes Nextcloud 1.4 s."""
_MEANING = {
    "waiting for the keyring": "unlock it, and the mount goes on by itself; what is to be sent is kept",
    "failing": "the server answers with nothing but errors; what is to be sent is kept and tried again and again",
    "maintenance": "what is to be sent is kept until the server takes it again",
    "throttled": "the server asks to be left alone for a while; what is to be sent is kept until then",
    "offline": "what is to be sent is kept until the server can be reached again",
}


class Standing(Protocol):
    """How it stands with the server: a status, or the first answer after a mount."""

    @property
    def state(self) -> str:
        """As in `control.protocol.Status`."""
        ...

    @property
    def untrusted(self) -> bool:
        """Its certificate is not trusted."""
        ...


def meaning(standing: Standing, account: str) -> str:
    """Return it in words that go on after the state; "" where all is well."""
    again = f"cloudfs login --account {account}"
    if standing.state == "needs-login":
        return f"log in again with `{again}`; the mount then goes on by itself"
    if standing.untrusted:
        return (
            f"nothing is sent to a server like that; if its certificate comes from an authority of your own:"
            f" `{again} --ca-file FILE`"
        )
    return _MEANING.get(standing.state, "")


def first_answer(folders: Folders, name: str) -> FirstAnswer | None:
    """Ask what the server says to a mount, which can be used meanwhile; None where nobody is left to tell."""
    with suppress(UserError, KeyboardInterrupt), connect(folders, name) as client:
        return client.first_answer(_ANSWER_S)
    return None


def warn(folders: Folders, name: str) -> None:
    """Tell a person at a terminal, who has just mounted an account, what is wrong, if anything is."""
    if sys.stdout.isatty() or sys.stderr.isatty():
        with waiting(f"asking the server of {name} …"):
            answer = first_answer(folders, name)
        sys.stderr.write("" if answer is None else warning(harmless(answer, sys.stderr), name))


def warning(answer: FirstAnswer, name: str) -> str:
    """Return the line that says what is wrong, and what to do; "" where nothing is."""
    if not answer.known:
        return "The server has not answered yet; `cloudfs status` tells how it stands.\n"
    if means := meaning(answer, name):
        return f"{answer.state.capitalize()} ({answer.reason}): {means}.\n"
    if answer.reason:
        return f"The server answers, but not as it should ({answer.reason}); `cloudfs doctor {name}` tells more.\n"
    return ""
