"""One account at work, from the database up to the file system, without a mount: put together room by room.

Each module makes one room of the things from the floors below. `account/` makes it answer
questions, `daemon/` adds the kernel and the control socket; tests drive `Engine.filesystem` directly.
"""

from cloudfs.engine.config import EngineConfig
from cloudfs.engine.engine import Engine
from cloudfs.engine.opening import open_engine

__all__ = ["Engine", "EngineConfig", "open_engine"]
