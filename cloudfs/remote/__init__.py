"""The server: WebDAV and Nextcloud's dialect of it behind one `Remote` protocol. Nothing else speaks HTTP."""

import sys

# httpx has a command line of its own, which is loaded where what it needs is there: 8 MB for a daemon, 50 ms. It does
# without where that is missing, as documented: "pip install httpx[cli]".
if "httpx" not in sys.modules and "click" not in sys.modules:
    sys.modules["click"] = None  # type: ignore[assignment]  # SOURCE: importlib: its import then fails
    try:
        import httpx  # noqa: F401
    finally:
        del sys.modules["click"]
