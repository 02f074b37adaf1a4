"""A stand-in for Nextcloud 29: its WebDAV dialect, with a handle for tests to edit its files and to make it fail.

The contract is ``protocol.md``, measured on a real server; the suite in ``tests/conformance`` runs against both.
"""

from tests.servers.standin.account import Account
from tests.servers.standin.faults import (
    CAPTIVE_PORTAL,
    Answer,
    BlackHole,
    CutResponse,
    CutUpload,
    Delay,
    Drop,
    Faults,
    Hold,
    LoseReply,
    Rule,
    Spoil,
    WrongLength,
)
from tests.servers.standin.log import Record, RequestLog
from tests.servers.standin.server import StandIn

__all__ = [
    "CAPTIVE_PORTAL",
    "Account",
    "Answer",
    "BlackHole",
    "CutResponse",
    "CutUpload",
    "Delay",
    "Drop",
    "Faults",
    "Hold",
    "LoseReply",
    "Record",
    "RequestLog",
    "Rule",
    "Spoil",
    "StandIn",
    "WrongLength",
]
