"""Stacked bars as a picture: an SVG that needs nothing else and reads on white and on black."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

WIDTH, MARGIN, LEFT, RIGHT = 880, 12, 96, 70
BAR, GAP, ROW = 34, 12, 22
# A number in a segment needs so much room.
NARROWEST = 24
# Dark enough for white figures in them; the text beside them is between black and white.
COLOURS = (
    *("#6e7781", "#0969da", "#1b7c83", "#8250df", "#bf3989"),
    *("#1a7f37", "#bc4c00", "#cf222e", "#9a6700", "#424a53"),
)
STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #747c86; font-variant-numeric: tabular-nums } "
    ".in { fill: #fff; text-anchor: middle } .right { text-anchor: end } "
    ".total { font-weight: 600 }"
)

Bars = Mapping[str, Mapping[str, float]]


def draw(title: str, bars: Bars) -> str:
    """A bar for each name, of milliseconds by segment; below, a table of all of them."""
    segments = list(next(iter(bars.values())))
    shown = {
        segment: colour
        for segment, colour in zip(segments, COLOURS, strict=True)
        if any(bar[segment] >= 0.05 for bar in bars.values())
    }
    table = MARGIN + len(bars) * (BAR + GAP) + ROW
    height = table + len(shown) * ROW + MARGIN
    box = {"viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "height": str(height)}
    picture = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"} | box)
    SubElement(picture, "title").text = title
    SubElement(picture, "style").text = STYLE
    _bars(picture, bars, shown)
    _table(picture, bars, shown, table)
    indent(picture)
    return tostring(picture, "unicode") + "\n"


def _bars(picture: Element, bars: Bars, shown: Mapping[str, str]) -> None:
    scale = (WIDTH - LEFT - RIGHT) / max(sum(bar.values()) for bar in bars.values())
    for number, (name, bar) in enumerate(bars.items()):
        y, x = MARGIN + number * (BAR + GAP), float(LEFT)
        _text(picture, MARGIN, y + 22, name)
        for segment, colour in shown.items():
            width = scale * bar[segment]
            _block(picture, x, y, width, BAR, colour)
            if width >= NARROWEST:
                _text(picture, x + width / 2, y + 22, f"{bar[segment]:.0f}", "in")
            x += width
        _text(picture, x + 6, y + 22, f"{sum(bar.values()):.0f} ms", "total")


def _table(picture: Element, bars: Bars, shown: Mapping[str, str], top: int) -> None:
    columns = {
        name: WIDTH - MARGIN - 110 * place for place, name in enumerate(reversed(list(bars)))
    }
    for name, x in columns.items():
        _text(picture, x, top - 6, f"{name}, ms", "right")
    for number, (segment, colour) in enumerate(shown.items()):
        y = top + number * ROW
        _block(picture, MARGIN, y + 3, 14, 14, colour)
        _text(picture, MARGIN + 24, y + 15, segment)
        for name, x in columns.items():
            _text(picture, x, y + 15, f"{bars[name][segment]:.1f}", "right")


def _block(picture: Element, x: float, y: float, width: float, height: float, fill: str) -> None:
    _add(picture, "rect", x=x, y=y, width=width, height=height, fill=fill)


def _text(picture: Element, x: float, y: float, text: str, kind: str = "") -> None:
    _add(picture, "text", x=x, y=y, **({"class": kind} if kind else {})).text = text


def _add(picture: Element, tag: str, **attributes: Any) -> Element:
    written = {n: f"{v:.1f}" if isinstance(v, float) else str(v) for n, v in attributes.items()}
    return SubElement(picture, tag, written)
