"""A Markdown page as one HTML file that needs nothing beside it: figures lie inside, no script, no network."""

from __future__ import annotations

import base64
import html
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2rem auto; max-width: 70rem;
  padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; padding-bottom: .3rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
th, td { border: 1px solid #d0d7de; padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { background: #f6f8fa; } td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; margin-top: 1rem; } code { background: #f6f8fa; padding: .1rem .3rem; }
@media print { body { margin: 0; max-width: none; } h2, table, img { break-inside: avoid; } }
"""


def as_html(markdown: str, folder: Path) -> str:
    """folder: where the page's figures lie. The first heading becomes the title."""
    reader = MarkdownIt("commonmark").enable("table")
    reader.add_render_rule("image", _inlined(folder))
    reader.add_render_rule("table_open", _literally('<div class="table"><table>'))
    reader.add_render_rule("table_close", _literally("</table></div>"))
    title = html.escape(markdown.splitlines()[0].lstrip("# "))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n{reader.render(markdown)}</body>\n</html>\n"
    )


def _inlined(folder: Path) -> Any:  # noqa: ANN401  # a render rule
    def rule(_: RendererHTML, tokens: Sequence[Token], place: int, __: object, ___: MutableMapping[str, Any]) -> str:
        token = tokens[place]
        content = base64.b64encode((folder / str(token.attrs["src"])).read_bytes()).decode("ascii")
        return f'<img alt="{html.escape(token.content)}" src="data:image/svg+xml;base64,{content}">'

    return rule


def _literally(text: str) -> Any:  # noqa: ANN401  # a render rule
    def rule(_: RendererHTML, __: Sequence[Token], ___: int, ____: object, _____: MutableMapping[str, Any]) -> str:
        return f"{text}\n"

    return rule
