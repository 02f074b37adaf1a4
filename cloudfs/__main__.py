"""The program `cloudfs`, and `python -m cloudfs`: the commands, from the first moment on quiet about Ctrl-C."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit. Ctrl-C is kept back until there is somebody to hear of it without a traceback."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from cloudfs.errors import INTERRUPTED  # noqa: PLC0415  # as below

    try:
        from cloudfs.cli.main import main as run  # noqa: PLC0415  # most of the start

        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
