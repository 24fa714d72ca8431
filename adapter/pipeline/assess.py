"""The walk of one patient in four durable steps: gather, retrieve, decide, deliver.

Each step takes and returns the digest of the case file so far; what it stands for lies encrypted in the vault. A step
may run again after a crash: the same input gives the same digests, and delivery is idempotent by identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from adapter.dicom.volume import read_volume
from adapter.domain.imaging import ImageDescriptors, SeriesOnDisk, SeriesRef, Volume
from adapter.domain.outcome import Abstained, Case, DeadLetter, Delivered, Settled, Skipped, TransactionBundle
from adapter.domain.record import Quarantined, RawRecord
from adapter.domain.risk import NotAtRisk
from adapter.errors import (
    AdjuvantError,
    BadData,
    InvalidForecast,
    NoGeometry,
    SeriesIncomplete,
    TooLarge,
    Transient,
    UnusableInput,
    place_of,
    reason_of,
)
from adapter.features.crop import crop_volume
from adapter.features.imaging import choose_series, describe_volume, volume_digest
from adapter.pipeline.case_file import CaseFile, SeriesFile, seal, unseal
from adapter.pipeline.decide import Decision, abstain, decide, dicom_patient, read_record, skipped
from adapter.pipeline.ports import CaseFiles, DecisionPorts, Ports, Predictor
from inference.contract import ContractBreach

# a series of which no volume can be made, by the code under which the result names it; the forecast stands without
_NO_VOLUME = {NoGeometry: "series-without-geometry", TooLarge: "series-too-large", UnusableInput: "series-not-usable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The case file so far, by digest, and the outcome where the case ends here."""

    case_file: str
    settled: Settled | None = None


def gather(case: Case, ports: Ports, at: datetime | None = None) -> StepResult:
    """Step 5: every page of the patient's record, sealed."""
    record = ports.files.keep(seal(ports.source.fetch_record(case.patient_id)))
    case_file = CaseFile(
        record=record,
        series=(),
        image_notes=(),
        at=at,
        practice=ports.practice.digest,
        model=ports.predictor.identity.digest,
    )
    return _kept(case_file, ports)


def retrieve(case: Case, case_file: CaseFile, ports: Ports) -> StepResult:
    """Steps 6 to 10: if the patient is at risk, the chosen series, complete and sealed.

    After a Transient error what had arrived waits for the next try; whoever tries no more abandons it.
    """
    record, stands = read_record(_raw(case_file, ports), ports.practice, case_file.at)
    if isinstance(stands, NotAtRisk):
        return replace(_kept(case_file, ports), settled=skipped(stands))
    if ports.archive is None:
        return _kept(replace(case_file, image_notes=("no-archive",)), ports)
    patient = dicom_patient(record.person, ports.practice.pacs_system)
    chosen = choose_series(ports.archive.find_series(patient), stands.landmark)
    series = []
    for ref in chosen:
        # images lie on disk encrypted or not at all
        with ports.archive.retrieved(patient, ref, owner=case.patient_id) as on_disk:
            series.append(ports.files.keep(seal(_sealed(on_disk, ports.files))))
    ports.archive.abandon(case.patient_id)  # an earlier try may have begun a series that is listed no more
    notes = () if chosen else ("no-usable-series",)
    return _kept(replace(case_file, series=tuple(series), image_notes=notes), ports)


def conclude(case_file: CaseFile, ports: DecisionPorts) -> StepResult:
    """Steps 11 to 18: forecast, proposal and transaction, sealed; or the transaction that says why there are none."""
    # the service may have been upgraded since the record was gathered: a replay needs what decided
    case_file = replace(case_file, practice=ports.practice.digest, model=ports.predictor.identity.digest)
    try:
        decision = decided(case_file, ports)
    except (UnusableInput, InvalidForecast) as error:
        return _refused(Abstained(reason=reason_of(error), detail=str(error)), case_file, ports)
    if isinstance(decision, Skipped):
        return replace(_kept(case_file, ports), settled=decision)
    return _kept(replace(case_file, bundle=ports.files.keep(seal(decision.bundle))), ports)


def conclude_stored(case_file_digest: str, ports: DecisionPorts) -> StepResult:
    """The third step from the store alone. Every end is an outcome, a bug of ours included, but what another try mends.

    Raises Transient, and MemoryError: in a process of its own that ends the process, and the case has a fresh one.
    """
    try:
        return conclude(unseal(ports.files.recall(case_file_digest), CaseFile), ports)
    except (Transient, MemoryError):
        raise
    except Exception as error:
        return StepResult(case_file=case_file_digest, settled=outcome_of(error))


def outcome_of(error: Exception) -> Abstained | DeadLetter:
    """How a case ends on an error that no retry mends: bad or incomplete data abstains, the rest waits for a person."""
    if not isinstance(error, AdjuvantError):
        return DeadLetter(reason="unexpected-error", detail=place_of(error))
    reason = reason_of(error)
    if isinstance(error, BadData | SeriesIncomplete):
        return Abstained(reason=reason, detail=str(error))
    return DeadLetter(reason=reason, detail=str(error))


def _refused(abstained: Abstained, case_file: CaseFile, ports: DecisionPorts) -> StepResult:
    """The EHR is told that nothing can be said, and why; the case goes on to delivery and ends there."""
    record, stands = read_record(_raw(case_file, ports), ports.practice, case_file.at)
    if isinstance(stands, NotAtRisk):
        return replace(_kept(case_file, ports), settled=skipped(stands))
    bundle = abstain(record, stands, abstained, practice=ports.practice, predictor=ports.predictor)
    ended = (abstained.reason, abstained.detail)
    return _kept(replace(case_file, bundle=ports.files.keep(seal(bundle)), abstained=ended), ports)


def deliver(case_file: CaseFile, ports: Ports) -> StepResult:
    """Step 19: the EHR holds the assessment, or the abstention, once."""
    if case_file.bundle is None:
        raise ValueError("there is nothing to deliver before the decision")
    bundle = unseal(ports.files.recall(case_file.bundle), TransactionBundle)
    receipt = ports.target.submit(bundle)
    if case_file.abstained is None:
        return replace(_kept(case_file, ports), settled=Delivered(receipt=receipt))
    reason, detail = case_file.abstained
    return replace(_kept(case_file, ports), settled=Abstained(reason=reason, detail=detail))


def decided(case_file: CaseFile, ports: DecisionPorts) -> Decision | Skipped:
    """Decide from what the case file holds, and from nothing else: the first time and in every replay."""
    record, stands = read_record(_raw(case_file, ports), ports.practice, case_file.at)
    if isinstance(stands, NotAtRisk):
        return skipped(stands)
    seen = _seen(case_file, ports)
    images = [entry for entry in seen if isinstance(entry, ImageDescriptors)]
    refused = [entry for entry in seen if isinstance(entry, Quarantined)]
    record = replace(record, quarantined=(*record.quarantined, *refused))
    return decide(record, stands, images, practice=ports.practice, predictor=ports.predictor)


def described(case_file: CaseFile, ports: DecisionPorts) -> tuple[ImageDescriptors, ...]:
    """Steps 11 and 12 for every series of the case of which a volume can be made."""
    return tuple(entry for entry in _seen(case_file, ports) if isinstance(entry, ImageDescriptors))


def _seen(case_file: CaseFile, ports: DecisionPorts) -> tuple[ImageDescriptors | Quarantined, ...]:
    """Every series of the case in numbers, or why there are none."""
    return tuple(
        _described_or_refused(unseal(ports.files.recall(digest), SeriesFile), ports) for digest in case_file.series
    )


def _kept(case_file: CaseFile, ports: DecisionPorts) -> StepResult:
    return StepResult(case_file=ports.files.keep(seal(case_file)))


def _raw(case_file: CaseFile, ports: DecisionPorts) -> RawRecord:
    return unseal(ports.files.recall(case_file.record), RawRecord)


def _sealed(series: SeriesOnDisk, files: CaseFiles) -> SeriesFile:
    digests = tuple(files.keep_file(path) for path in series.files)
    return SeriesFile(ref=series.ref, files=digests)


def _described_or_refused(series: SeriesFile, ports: DecisionPorts) -> ImageDescriptors | Quarantined:
    """A series of which no volume can be made is no reason to leave the patient without a forecast, and is named.

    Raises Unreadable for a damaged file: then we do not hold what the archive holds, and the case abstains.
    """
    try:
        return _described(series, ports)
    except tuple(_NO_VOLUME) as error:
        known = series.ref.acquired.latest if series.ref.acquired else None
        where = f"series {series.ref.series_uid}"
        return Quarantined(source=where, reason=_NO_VOLUME[type(error)], detail=str(error), known=known)


def _described(series: SeriesFile, ports: DecisionPorts) -> ImageDescriptors:
    """Steps 11 and 12, on plain copies that live only as long as the reading."""
    with ports.files.plain_copies(series.files) as paths:
        volume = read_volume(SeriesOnDisk(ref=series.ref, folder=paths[0].parent, files=paths))
    return describe_image(volume, series.ref, ports.predictor)


def describe_image(volume: Volume, ref: SeriesRef, predictor: Predictor) -> ImageDescriptors:
    """The volume in numbers, with what the model's encoder makes of it where the model reads images.

    Raises NoGeometry for a volume that is none; InvalidForecast where the encoder answers outside its contract.
    """
    # images carry no reporting time of their own: the hospital had them when they were acquired
    descriptors = describe_volume(volume, ref, digest=volume_digest(volume))
    grid = predictor.contract.image
    if grid is None:
        return descriptors
    crop = crop_volume(volume, shape=grid.shape, spacing_mm=grid.spacing_mm, window_hu=grid.window_hu)
    try:
        embedding = predictor.embed(crop)
    except ContractBreach as error:
        raise InvalidForecast(str(error)) from error
    return replace(descriptors, embedding=tuple(embedding.tolist()))
