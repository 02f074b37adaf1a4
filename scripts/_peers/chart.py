"""The chart of a page: how many times faster than the best peer, on a logarithmic scale, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from scripts._peers.figures import Figures
from scripts._peers.works import WORKS

__all__ = ["chart"]

_LABELS, _BARS, _MARGIN = 400, 480, 60
_BAR, _GAP, _TOP = 12, 8, 56
_COLOURS = ("#2a6f97", "#e07a3f", "#6a994e")
_LEAST, _MOST = 0.25, 1000.0


def chart(figures: Figures) -> str:
    """Return the chart; a bar to the left of 1 is slower than the best peer."""
    bars, height = [], _TOP
    for work in WORKS:
        for name, _ in work.parts():
            ratios = [(n, rtt, figures.ratio(rtt, name)) for n, rtt in enumerate(figures.rtts())]
            known = [(n, rtt, ratio) for n, rtt, ratio in ratios if ratio is not None]
            if not known:
                continue
            bars.append(_text(_LABELS - 8, height + len(known) * _BAR / 2 + 4, name.replace("`", ""), "end"))
            for n, _rtt, ratio in known:
                bars.append(_bar(ratio, height, _COLOURS[n % len(_COLOURS)]))
                height += _BAR
            height += _GAP
    width = _LABELS + _BARS + _MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 8}" width="{width}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height + 8}" fill="#ffffff"/>',
        *_legend(figures),
        *_grid(height),
        *bars,
        "</svg>\n",
    ])  # fmt: skip


def place(ratio: float) -> float:
    """Return where a ratio is on the scale."""
    inside = min(max(ratio, _LEAST), _MOST)
    return _LABELS + _BARS * math.log(inside / _LEAST) / math.log(_MOST / _LEAST)


def _bar(ratio: float, top: float, colour: str) -> str:
    left, right = sorted((place(1.0), place(ratio)))
    bar = f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{_BAR - 1}" fill="{colour}"/>'
    return bar + _text(right + 4, top + _BAR - 2, f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}")


def _grid(height: float) -> Iterator[str]:
    for ratio in (1, 10, 100, 1000):
        at, colour = place(ratio), "#444444" if ratio == 1 else "#dddddd"
        yield f'<line x1="{at:.1f}" y1="{_TOP - 6}" x2="{at:.1f}" y2="{height}" stroke="{colour}"/>'
        yield _text(at, _TOP - 10, f"{ratio} times", "middle")


def _legend(figures: Figures) -> Iterator[str]:
    yield _text(12, 20, "Times faster than the best peer")
    for n, rtt in enumerate(figures.rtts()):
        left = _LABELS + n * 110
        yield f'<rect x="{left}" y="11" width="10" height="10" fill="{_COLOURS[n % len(_COLOURS)]}"/>'
        yield _text(left + 15, 20, f"RTT {rtt} ms")


def _text(left: float, base: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{left:.1f}" y="{base:.1f}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'
