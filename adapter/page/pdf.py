"""A page as one sheet of A4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from xml.sax.saxutils import escape

from reportlab.graphics.shapes import Drawing
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Frame, KeepInFrame, PageTemplate, Paragraph, Spacer, Table, TableStyle
from reportlab.platypus.doctemplate import BaseDocTemplate

from adapter.page.chart import WIDTH, draw
from adapter.page.view import Open, Page, Point

_MARGIN = 14 * mm
_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=8, leading=10, textColor=HexColor("#0f172a"))
_SMALL = ParagraphStyle("small", parent=_BODY, fontSize=6.6, leading=8.2, textColor=HexColor("#475569"))
_TITLE = ParagraphStyle("title", parent=_BODY, fontName="Helvetica-Bold", fontSize=13, leading=17)
_HEAD = ParagraphStyle("head", parent=_BODY, fontName="Helvetica-Bold", fontSize=9.5, leading=12.5)
_SECTION = ParagraphStyle("section", parent=_SMALL, fontName="Helvetica-Bold", spaceBefore=7, spaceAfter=2)
_BANNER = ParagraphStyle(
    "banner", parent=_HEAD, backColor=HexColor("#fef3c7"), borderColor=HexColor("#f59e0b"), borderWidth=0.6,
    borderPadding=3, spaceBefore=6, spaceAfter=6,
)  # fmt: skip
_SUPERSEDED = ParagraphStyle(
    "superseded", parent=_BANNER, backColor=HexColor("#fee2e2"), borderColor=HexColor("#dc2626"),
)  # fmt: skip
_LINES = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -2), 0.4, HexColor("#e2e8f0")),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ]
)
_SCALES = (1.0, 0.9, 0.82, 0.75, 0.68, 0.62, 0.56, 0.5)
_ENDLESS = 1e6  # points
_VERDICTS = {"concordant": "#166534", "option": "#1e40af", "do not give": "#991b1b"}


def as_pdf(page: Page) -> bytes:
    """One page, the same bytes for the same assessment; what is long is set smaller, nothing is left out."""
    paper = BytesIO()
    document = BaseDocTemplate(paper, pagesize=A4, title=page.assessment, author="adjuvant", invariant=1)
    width, height = A4[0] - 2 * _MARGIN, A4[1] - 2 * _MARGIN
    frame = Frame(_MARGIN, _MARGIN, width, height, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame]))
    document.build([KeepInFrame(width, height, _fitting(page, width, height), mode="shrink")])
    return paper.getvalue()


def _fitting(page: Page, width: float, height: float) -> list[Flowable]:
    """The content laid out on a paper so much larger that it fits, so that lines fill the sheet when it is shrunk."""
    for scale in _SCALES:
        if _height(_content(page, width / scale), width / scale) * scale <= height:
            break
    return list(_content(page, width / scale))


def _height(content: Iterable[Flowable], width: float) -> float:
    flowables = list(content)
    spaces = sum(one.getSpaceBefore() + one.getSpaceAfter() for one in flowables)
    return float(spaces + sum(one.wrap(width, _ENDLESS)[1] for one in flowables))


def _content(page: Page, width: float) -> Iterator[Flowable]:
    yield _words("Postoperative assessment", _TITLE)
    yield _words(f"{page.patient}, landmark {page.landmark}", _BODY)
    if page.basis:
        yield _words(page.basis, _BODY)
    if page.banner:
        yield _words(page.banner, _BANNER)
    if page.superseded:
        yield _words(page.superseded, _SUPERSEDED)
    yield _words(page.headline, _HEAD)
    yield _words(page.plan, _BODY)
    yield from _left_open(page.left_open)
    yield _words(f"Forecast{page.ranged}", _SECTION)
    yield _beside(draw(page.curves), _numbers(page), width)
    yield _words("What the rules allow (draft, for a clinician to decide)", _SECTION)
    yield _table([(_verdict(one.verdict), _both(one.title, one.why)) for one in page.treatments], (0.13, 0.87), width)
    yield _words("Follow-up", _SECTION)
    rows = [(_words(one.title), _words(one.when), _words(one.why, _SMALL)) for one in page.visits]
    yield _table(rows, (0.36, 0.3, 0.34), width)
    if page.follow_up:
        yield _words(page.follow_up, _SMALL)
    yield _words("Why, and what was missing", _SECTION)
    yield from (_words(text, _SMALL) for text in (*page.notes, *page.reasons))
    yield Spacer(0, 4)
    sources = f"{len(page.sources)} sources: {', '.join(page.sources)}"
    yield _words(f"{page.assessment}; model {page.model}; rules {page.policy}; {sources}", _SMALL)


def _left_open(left_open: Open) -> Iterator[Flowable]:
    """What stopped, what would settle it, and who is asked to look: before the numbers, as a board takes it."""
    if not left_open.anything:
        return
    yield _words("Left open", _SECTION)
    if left_open.stop:
        yield _words(f"{left_open.stop} (severity {left_open.severity})", _BODY)
    if left_open.settles:
        yield _words(f"Would settle it: {left_open.settles}", _BODY)
    if left_open.unusual:
        yield _words(f"Unusual patient: {left_open.unusual}", _BODY)
    if left_open.review:
        yield _words(left_open.review, _BODY)


def _words(text: str, style: ParagraphStyle = _BODY) -> Paragraph:
    return Paragraph(escape(text), style)


def _both(title: str, why: str) -> Paragraph:
    return Paragraph(f"<b>{escape(title)}</b><br/><font size=6.6 color='#475569'>{escape(why)}</font>", _BODY)


def _verdict(word: str) -> Paragraph:
    colour = _VERDICTS.get(word, "#475569")
    return Paragraph(f"<font color='{colour}'><b>{escape(word)}</b></font>", _BODY)


def _numbers(page: Page) -> Table:
    horizons = [point.years for point in page.curves[0].points] if page.curves else []
    head = [_words("", _SMALL), *(_words(f"{years} y", _SMALL) for years in horizons)]
    rows = [[_words(curve.outcome, _SMALL), *(_number(point) for point in curve.points)] for curve in page.curves]
    return Table([head, *rows], style=_LINES, hAlign="LEFT")


def _number(point: Point) -> Paragraph:
    band = f"<br/>{escape(point.band)}" if point.band else ""
    return Paragraph(f"<b>{escape(point.number)}</b>{band}", _SMALL)


def _beside(drawing: Drawing, numbers: Table, width: float) -> Table:
    return Table(
        [[drawing, numbers]],
        colWidths=[WIDTH, width - WIDTH],
        style=[("VALIGN", (0, 0), (-1, -1), "MIDDLE")],
        hAlign="LEFT",
    )


def _table(rows: Iterable[Sequence[Flowable]], shares: Sequence[float], width: float) -> Flowable:
    listed = [list(row) for row in rows]
    return (
        Table(listed, colWidths=[share * width for share in shares], style=_LINES, hAlign="LEFT")
        if listed
        else _words("none", _SMALL)
    )
