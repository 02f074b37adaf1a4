"""Presses Ctrl-C at one exact moment of a program that has this folder in PYTHONPATH: Python imports it at its start.

INTERRUPT_IN names the program, by a word of its command line, and INTERRUPT_AT the moment: an audit event, with its
first argument where that is a word ("import trio", "sqlite3.connect"), or "start" for Python's own start.
"""

import os
import signal
import sys

_moment = os.environ["INTERRUPT_AT"]


def _interrupt() -> None:
    global _moment  # noqa: PLW0603  # once
    _moment = ""
    os.kill(os.getpid(), signal.SIGINT)


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if _moment and _moment in {event, f"{event} {arguments[0] if arguments else ''}"}:
        _interrupt()


if os.environ["INTERRUPT_IN"] in sys.orig_argv:
    if _moment == "start":
        _interrupt()
    sys.addaudithook(_heard)
