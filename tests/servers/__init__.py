"""Servers for tests: a stand-in for Nextcloud that can be edited and made to fail, and plain WebDAV servers.

See README.md.
"""

from tests.servers.plain import ApacheServer, PlainServer, RcloneServer, ServerUnavailable, WsgidavServer
from tests.servers.standin import (
    CAPTIVE_PORTAL,
    Account,
    Answer,
    BlackHole,
    CutResponse,
    CutUpload,
    Delay,
    Drop,
    Hold,
    LoseReply,
    Record,
    RequestLog,
    Rule,
    Spoil,
    StandIn,
    WrongLength,
)

__all__ = [
    "CAPTIVE_PORTAL",
    "Account",
    "Answer",
    "ApacheServer",
    "BlackHole",
    "CutResponse",
    "CutUpload",
    "Delay",
    "Drop",
    "Hold",
    "LoseReply",
    "PlainServer",
    "RcloneServer",
    "Record",
    "RequestLog",
    "Rule",
    "ServerUnavailable",
    "Spoil",
    "StandIn",
    "WrongLength",
    "WsgidavServer",
]
