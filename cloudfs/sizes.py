"""Sizes as people say them."""

from __future__ import annotations

__all__ = ["in_units"]


def in_units(size_bytes: int) -> str:
    """Return a size as people say it: 312 bytes, 1.5 MB, 12 MB."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "bytes" and size < 9.95 else f"{size:.0f} {unit}"
