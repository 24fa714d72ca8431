"""What is kept of a case so that it can be decided again: the raw record, the series, and how they were read.

Everything here is canonical JSON, sealed in the vault by its digest; the durable queue holds the digests only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from adapter.domain.imaging import SeriesRef
from adapter.domain.outcome import TransactionBundle
from adapter.domain.record import RawRecord
from adapter.errors import BadStore, CaseFileGone
from adapter.pipeline.ports import CaseFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFile:
    """One retrieved series in the vault. files: digests, ordered as `ref.instance_uids`."""

    ref: SeriesRef
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """Everything one decision rests on, by digest.

    record: digest of the RawRecord. series: digests of SeriesFile. image_notes: why images are absent, as codes.
    at: the landmark asked for; None where the record sets it. practice, model: digests of how the site reads and
    decides, and of the bundle that predicted. bundle: digest of the transaction that came out, None where none did.
    abstained: reason and detail, where the transaction says that no assessment could be made.
    """

    record: str
    series: tuple[str, ...]
    image_notes: tuple[str, ...]
    at: datetime | None
    practice: str
    model: str
    bundle: str | None = None
    abstained: tuple[str, str] | None = None


def _checked(kind: Callable[[object], object], value: object) -> object:
    """Identifiers are checked texts: build them from the text again."""
    return kind(value)


_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind, dec_hook=_checked) for kind in (RawRecord, SeriesFile, CaseFile, TransactionBundle)
}
_Kept = TypeVar("_Kept", RawRecord, SeriesFile, CaseFile, TransactionBundle)


def seal(kept: RawRecord | SeriesFile | CaseFile | TransactionBundle) -> bytes:
    """Canonical JSON: fields in the order of the type, no blanks, bytes as base64."""
    return msgspec.json.encode(kept, enc_hook=str)


def unseal(content: bytes, kind: type[_Kept]) -> _Kept:
    """The value behind the bytes. Raises BadStore when they are not of that kind."""
    try:
        kept: _Kept = _DECODERS[kind].decode(content)
    except msgspec.MsgspecError as error:
        raise BadStore(f"a case file is not a {kind.__name__}") from error
    return kept


def stored_bundle(case_file_digest: str, files: CaseFiles) -> TransactionBundle:
    """What a stored case sent, or would have sent. Raises BadStore where it ended before there was anything to send."""
    case_file = unseal(files.recall(case_file_digest), CaseFile)
    if case_file.bundle is None:
        raise BadStore("the case ended without a transaction: there is nothing to show or compare")
    return unseal(files.recall(case_file.bundle), TransactionBundle)


def reach(case_file_digest: str, files: CaseFiles) -> Iterator[str]:
    """The digest itself and every digest it leads to: what a case needs to be decided again.

    What is gone leads no further: a backup has not what expired, or was forgotten, while it was taken. Raises BadStore
    where one is damaged.
    """
    yield case_file_digest
    try:
        case_file = unseal(files.recall(case_file_digest), CaseFile)
    except CaseFileGone:
        return
    yield case_file.record
    if case_file.bundle is not None:
        yield case_file.bundle
    for series in case_file.series:
        yield series
        with suppress(CaseFileGone):
            yield from unseal(files.recall(series), SeriesFile).files


def reached_by(case_file_digests: Iterable[str], files: CaseFiles) -> frozenset[str]:
    """Every digest that any of these cases leads to."""
    return frozenset(reached for digest in case_file_digests for reached in reach(digest, files))
