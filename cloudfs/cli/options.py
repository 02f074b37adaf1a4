"""What options of several commands have in common."""

from __future__ import annotations

import math

import typer

__all__ = ["seconds"]


def seconds(value: float | None) -> float | None:
    """Take a time to wait; `nan`, which is neither long nor short, would be one without end."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("that is no number of seconds.")
    return value
