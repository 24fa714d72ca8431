"""The risk curves as one drawing, for HTML (as SVG) and PDF alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Circle, Drawing, Line, Polygon, PolyLine, String
from reportlab.lib.colors import Color, HexColor

from adapter.page.view import Curve, Point

WIDTH, HEIGHT = 320.0, 190.0  # points
_LEFT, _RIGHT, _BOTTOM, _TOP = 30.0, 96.0, 26.0, 8.0
_INK, _GRID = HexColor("#334155"), HexColor("#e2e8f0")
_COLOURS = tuple(map(HexColor, ("#c2410c", "#64748b", "#1e3a8a", "#0f766e")))
_STEP, _FULL = 20, 100  # percent
_LABEL_GAP = 11.0


class _Scale:
    """Years and percent to points on the paper."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        points = [point for curve in curves for point in curve.points]
        highest = max((float(point.high or point.percent) for point in points), default=0.0)
        self.years = max((point.years for point in points), default=1)
        self.top = min(_FULL, _STEP * (int(highest) // _STEP + 1))

    def x(self, years: float) -> float:
        return _LEFT + years / self.years * (WIDTH - _LEFT - _RIGHT)

    def y(self, percent: float) -> float:
        return _BOTTOM + percent / self.top * (HEIGHT - _BOTTOM - _TOP)


def draw(curves: Sequence[Curve]) -> Drawing:
    """Each outcome from nothing at the landmark to its last horizon, its band behind it, its name at the end."""
    drawing, scale = Drawing(WIDTH, HEIGHT), _Scale(curves)
    for percent in range(0, scale.top + 1, _STEP):
        drawing.add(Line(_LEFT, scale.y(percent), WIDTH - _RIGHT, scale.y(percent), strokeColor=_GRID, strokeWidth=0.6))
        drawing.add(_text(_LEFT - 4, scale.y(percent) - 2.5, f"{percent} %", anchor="end"))
    for year in range(scale.years + 1):
        drawing.add(_text(scale.x(year), _BOTTOM - 11, str(year), anchor="middle"))
    drawing.add(_text((_LEFT + WIDTH - _RIGHT) / 2, 4, "years after the landmark", anchor="middle"))
    for curve, colour in zip(curves, _COLOURS, strict=False):
        _add_band(drawing, curve, scale, colour)
    for curve, colour in zip(curves, _COLOURS, strict=False):
        _add_curve(drawing, curve, scale, colour)
    _add_names(drawing, curves, scale)
    return drawing


def as_svg(curves: Sequence[Curve]) -> str:
    """The drawing as an SVG element."""
    text: str = renderSVG.drawToString(draw(curves))
    return text[text.index("<svg") :]


def _add_band(drawing: Drawing, curve: Curve, scale: _Scale, colour: Color) -> None:
    banded = [point for point in curve.points if point.low is not None and point.high is not None]
    if not banded:
        return
    low = [(0, 0.0), *((point.years, float(point.low or 0)) for point in banded)]
    high = [(point.years, float(point.high or 0)) for point in banded]
    corners = [edge for years, percent in [*low, *reversed(high)] for edge in (scale.x(years), scale.y(percent))]
    drawing.add(Polygon(corners, fillColor=_faint(colour), strokeColor=None))


def _faint(colour: Color) -> Color:
    """Nearly transparent: bands lie on each other."""
    return Color(colour.red, colour.green, colour.blue, alpha=0.14)


def _add_curve(drawing: Drawing, curve: Curve, scale: _Scale, colour: Color) -> None:
    path = [(scale.x(0), scale.y(0)), *(_place(point, scale) for point in curve.points)]
    drawing.add(PolyLine([edge for place in path for edge in place], strokeColor=colour, strokeWidth=1.6))
    for place in path[1:]:
        drawing.add(Circle(*place, 2.2, fillColor=colour, strokeColor=None))


def _place(point: Point, scale: _Scale) -> tuple[float, float]:
    return scale.x(point.years), scale.y(float(point.percent))


def _add_names(drawing: Drawing, curves: Sequence[Curve], scale: _Scale) -> None:
    """Each beside its last point, pushed up where two would lie on each other."""
    ends = sorted(
        (scale.y(float(curve.points[-1].percent)), number) for number, curve in enumerate(curves) if curve.points
    )
    lowest = 0.0
    for wanted, number in ends:
        height = max(wanted, lowest)
        lowest = height + _LABEL_GAP
        colour = _COLOURS[number % len(_COLOURS)]
        drawing.add(_text(WIDTH - _RIGHT + 5, height - 2.5, curves[number].outcome, colour=colour))


def _text(
    x: float, y: float, words: str, *, anchor: Literal["start", "middle", "end"] = "start", colour: Color = _INK
) -> String:
    return String(x, y, words, fontName="Helvetica", fontSize=7, textAnchor=anchor, fillColor=colour)
