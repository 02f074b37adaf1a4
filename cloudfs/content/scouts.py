"""While a server is thought to be silent: which of the requests that were waited for in vain go on, and for how long.

Those who read then wait for a moment only, so a server that is merely slow would never be heard again. One request goes
on for as long as a program would have waited; the others make room, as most are on their way to nobody.
"""

from __future__ import annotations

from cloudfs.content.transfer import Transfer
from cloudfs.remote.silence import Silence

__all__ = ["Scouts"]

_SCOUT_S = 7.5
"""As long as a read of the kernel waits (`fuse.boundary`)."""


class Scouts:
    """Of one account's transfers."""

    def __init__(self, silence: Silence, others_s: float) -> None:
        """`others_s`: for so long those go on that are none."""
        self._silence = silence
        self._others_s = others_s
        self._scout: Transfer | None = None

    def goes_on_s(self, transfer: Transfer) -> float | None:
        """Return for how many seconds one goes on that nothing came of yet; None: as long as ever. NO CHECKPOINT."""
        if not self._silence.presumed:
            return None
        if self._scout is None or self._scout.ended:
            self._scout = transfer
        return _SCOUT_S if self._scout is transfer else self._others_s
