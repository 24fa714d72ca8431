"""The walk of one patient in four durable steps: gather, retrieve, decide, deliver.

Each step takes and returns the digest of the case file so far; what it stands for lies encrypted in the vault. A step
may run again after a crash: the same input gives the same digests, and delivery is idempotent by identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from adapter.dicom.volume import read_volume
from adapter.domain.imaging import ImageDescriptors, SeriesOnDisk
from adapter.domain.outcome import Case, Delivered, Settled, Skipped, TransactionBundle
from adapter.domain.record import RawRecord
from adapter.domain.risk import NotAtRisk
from adapter.errors import NoGeometry
from adapter.features.imaging import choose_series, describe_volume, volume_digest
from adapter.pipeline.case_file import CaseFile, SeriesFile, seal, unseal
from adapter.pipeline.decide import Decision, decide, dicom_patient, read_record, skipped
from adapter.pipeline.ports import CaseFiles, DecisionPorts, Ports


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


def retrieve(case_file: CaseFile, ports: Ports) -> StepResult:
    """Steps 6 to 10: if the patient is at risk, the chosen series, complete and sealed."""
    record, stands = read_record(_raw(case_file, ports), ports.practice, case_file.at)
    if isinstance(stands, NotAtRisk):
        return replace(_kept(case_file, ports), settled=skipped(stands))
    if ports.archive is None:
        return _kept(replace(case_file, image_notes=("no-archive",)), ports)
    patient = dicom_patient(record.person, ports.practice.pacs_system)
    chosen = choose_series(ports.archive.find_series(patient), stands.landmark)
    series = []
    for ref in chosen:
        on_disk = ports.archive.retrieve_series(patient, ref)
        series.append(ports.files.keep(seal(_sealed(on_disk, ports.files))))
        ports.archive.forget(on_disk)  # images lie on disk encrypted or not at all
    notes = () if chosen else ("no-usable-series",)
    return _kept(replace(case_file, series=tuple(series), image_notes=notes), ports)


def conclude(case_file: CaseFile, ports: DecisionPorts) -> StepResult:
    """Steps 11 to 18: forecast, proposal and transaction, sealed."""
    decision = decided(case_file, ports)
    if isinstance(decision, Skipped):
        return replace(_kept(case_file, ports), settled=decision)
    return _kept(replace(case_file, bundle=ports.files.keep(seal(decision.bundle))), ports)


def deliver(case_file: CaseFile, ports: Ports) -> StepResult:
    """Step 19: the EHR holds the assessment, once."""
    if case_file.bundle is None:
        raise ValueError("there is nothing to deliver before the decision")
    bundle = unseal(ports.files.recall(case_file.bundle), TransactionBundle)
    receipt = ports.target.submit(bundle)
    return replace(_kept(case_file, ports), settled=Delivered(receipt=receipt))


def decided(case_file: CaseFile, ports: DecisionPorts) -> Decision | Skipped:
    """Decide from what the case file holds, and from nothing else: the first time and in every replay."""
    record, stands = read_record(_raw(case_file, ports), ports.practice, case_file.at)
    if isinstance(stands, NotAtRisk):
        return skipped(stands)
    images = described(case_file, ports)
    return decide(record, stands, images, practice=ports.practice, predictor=ports.predictor)


def described(case_file: CaseFile, ports: DecisionPorts) -> tuple[ImageDescriptors, ...]:
    """Steps 11 and 12 for every series of the case."""
    return tuple(_described(unseal(ports.files.recall(digest), SeriesFile), ports.files) for digest in case_file.series)


def _kept(case_file: CaseFile, ports: DecisionPorts) -> StepResult:
    return StepResult(case_file=ports.files.keep(seal(case_file)))


def _raw(case_file: CaseFile, ports: DecisionPorts) -> RawRecord:
    return unseal(ports.files.recall(case_file.record), RawRecord)


def _sealed(series: SeriesOnDisk, files: CaseFiles) -> SeriesFile:
    digests = tuple(files.keep_file(path) for path in series.files)
    return SeriesFile(ref=series.ref, files=digests)


def _described(series: SeriesFile, files: CaseFiles) -> ImageDescriptors:
    """Steps 11 and 12, on plain copies that live only as long as the reading."""
    if series.ref.acquired is None:
        raise NoGeometry(f"series {series.ref.series_uid} has no acquisition time")
    with files.plain_copies(series.files) as paths:
        on_disk = SeriesOnDisk(ref=series.ref, folder=paths[0].parent, files=paths)
        # images carry no reporting time of their own: the hospital had them when they were acquired
        known = series.ref.acquired.latest
        volume = read_volume(on_disk)
        return describe_volume(volume, series.ref, digest=volume_digest(volume), known=known)
