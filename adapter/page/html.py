"""A page as one HTML file without script, font or image from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from adapter.page.chart import as_svg
from adapter.page.view import Page

_TEMPLATE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
    (files("adapter.page") / "page.html").read_text(encoding="utf-8")
)


def as_html(page: Page) -> str:
    """The whole document; every text of a record is escaped."""
    horizons = [point.years for point in page.curves[0].points] if page.curves else []
    return _TEMPLATE.render(page=page, horizons=horizons, chart=Markup(as_svg(page.curves)))  # noqa: S704 (ours alone)
