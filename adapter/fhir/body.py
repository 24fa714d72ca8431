"""A reply's body, read piece by piece: a slow, endless or exploding one is refused while it comes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

from adapter.errors import MalformedResource, PeerTimeout, PeerUnavailable, TooLarge
from adapter.fhir.limits import Limits

_PIECE = 64 * 1024
_GZIP = 31  # zlib window bits: 15 and a gzip header


def read_body(pieces: Iterable[bytes], *, encoding: str, limits: Limits, clock: Callable[[], float]) -> bytes:
    """Join the pieces of one body, decompressed.

    pieces: as they come off the wire. encoding: the Content-Encoding; only gzip was asked for. clock:
    monotonic seconds. Raises TooLarge over the cap (never holding more than a piece beyond it), PeerTimeout
    below the slowest allowed rate or over the whole time, PeerUnavailable for a body cut short,
    MalformedResource for another encoding. Source: checklist FR-13, faults F-08, F-22 and F-35.
    """
    watched = _watched(pieces, limits, clock)
    plain = encoding.strip().lower() in {"", "identity"}
    if not plain and encoding.strip().lower() not in {"gzip", "x-gzip"}:
        raise MalformedResource("a body has a content encoding that was not asked for")
    held = bytearray()
    for piece in watched if plain else _inflated(watched):
        if len(held) + len(piece) > limits.body_bytes:
            raise TooLarge(f"a body is larger than {limits.body_bytes} bytes")
        held += piece
    return bytes(held)


def _watched(pieces: Iterable[bytes], limits: Limits, clock: Callable[[], float]) -> Iterator[bytes]:
    """Pass pieces on while they come fast enough, judged on what crossed the wire."""
    started = clock()
    received = 0
    for piece in pieces:
        received += len(piece)
        elapsed = clock() - started
        if elapsed > limits.whole_seconds:
            raise PeerTimeout(f"a body took longer than {limits.whole_seconds:g} s")
        if elapsed > limits.grace_seconds and received < elapsed * limits.slowest_bytes_per_second:
            raise PeerTimeout(f"a body came slower than {limits.slowest_bytes_per_second:g} bytes/s")
        yield piece


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress in bounded steps, so that a bomb is met at the cap and not in memory."""
    inflater = zlib.decompressobj(_GZIP)
    for piece in pieces:
        waiting = piece
        while waiting and not inflater.eof:
            try:
                yield inflater.decompress(waiting, _PIECE)
            except zlib.error as error:
                raise MalformedResource("a body is not the gzip it claims to be") from error
            waiting = inflater.unconsumed_tail
        if waiting or inflater.unused_data:
            raise MalformedResource("a gzip body goes on after its end")
    if not inflater.eof:
        raise PeerUnavailable("a gzip body was cut short")
