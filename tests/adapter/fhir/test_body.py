"""Reading a body under caps."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import MalformedResource, PeerTimeout, PeerUnavailable, TooLarge
from adapter.fhir.body import read_body
from adapter.fhir.limits import Limits


def read(pieces: list[bytes], encoding: str = "", limits: Limits | None = None, seconds: float = 0.0) -> bytes:
    """Read a body whose pieces come `seconds` apart."""
    ticks = (number * seconds for number in range(10**6))
    return read_body(pieces, encoding=encoding, limits=limits or Limits(), clock=lambda: next(ticks))


def cut(content: bytes, size: int) -> list[bytes]:
    """The content in pieces."""
    return [content[start : start + size] for start in range(0, len(content), size)]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_body_is_what_was_sent(content: bytes, size: int) -> None:
    """However it is cut into pieces, plain or gzip."""
    assert read(cut(content, size)) == content
    assert read(cut(gzip.compress(content), size), "gzip") == content


@given(st.integers(0, 40))
def test_a_gzip_body_cut_short_is_noticed(missing: int) -> None:
    """Half a page is never a page."""
    content = gzip.compress(bytes(range(256)))
    if missing:
        with pytest.raises(PeerUnavailable):
            read([content[:-missing]], "gzip")


@pytest.mark.fault("F-22", "F-35")
def test_a_bomb_is_met_at_the_cap() -> None:
    """A thousandfold expansion is refused without being held: no more is unpacked than the cap and a piece."""
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for piece in cut(gzip.compress(bytes(2**26)), 1024):
            taken += 1
            yield piece

    with pytest.raises(TooLarge):
        read_body(pieces(), encoding="gzip", limits=Limits(body_bytes=2**20), clock=lambda: 0.0)
    assert taken <= 3


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(b"{}", "br"), (b"{}", "gzip, gzip"), (b"{}", "gzip"), (gzip.compress(b"{}", mtime=0) + b"more", "gzip"),
     (gzip.compress(b"{}", mtime=0) * 2, "gzip")],
)  # fmt: skip
def test_an_encoding_that_was_not_asked_for_is_refused(content: bytes, encoding: str) -> None:
    """Brotli, double gzip, plain text called gzip, anything after the end: MalformedResource."""
    with pytest.raises(MalformedResource):
        read([content], encoding)


@pytest.mark.fault("F-08")
def test_slow_and_endless_bodies_are_given_up() -> None:
    """Below the least rate after the grace, or beyond the whole time, however steadily it drips."""
    with pytest.raises(PeerTimeout, match="slower"):
        read([b"x"] * 100, seconds=1.0)
    with pytest.raises(PeerTimeout, match="longer"):
        read([b"x" * 10**5] * 200, seconds=1.0)
    assert read([b"x" * 2000] * 60, seconds=1.0) == b"x" * 120_000
