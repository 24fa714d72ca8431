"""The pretend hospital whole: an EHR and an archive on loopback ports, and simulated patients whose courses unfold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydicom.dataset import Dataset

from adapter.domain.ids import PatientId
from adapter.sandbox.anatomy import SERIES_SHAPE, SERIES_SPACING_MM, planted_ball
from adapter.sandbox.ct import CtOptions, simulated_ct
from adapter.sandbox.fhir_server import FhirServer
from adapter.sandbox.pacs import SandboxPacs
from adapter.sandbox.patients import CtSeries, SimulatedCourse
from adapter.sandbox.playback import Reveal, playback
from adapter.sandbox.repository import Refused
from adapter.terminology import Terminology

_BEFORE_EVERYTHING = datetime(2000, 1, 1, tzinfo=UTC)


def sandbox_policy() -> Path:
    """The rows by which the pretend hospital declares its records complete: a site folder."""
    return Path(str(files("mappings"))) / "sandbox"


class SandboxHospital:
    """A context manager. The hospital's clock stands at the last thing it learned, so its times are the patients' own.

    `unfold` lets the hospital learn what comes next.
    """

    def __init__(
        self,
        courses: Sequence[SimulatedCourse],
        terminology: Terminology,
        *,
        fhir_port: int = 0,
        dicom_port: int = 0,
        order: Callable[[Sequence[Reveal]], Sequence[Reveal]] = tuple,
    ) -> None:
        """Ports: 0 for any free one. order: in which it learns what lies in order of time."""
        self._now = _BEFORE_EVERYTHING
        self._reveals = tuple(order(playback(courses, terminology)))
        self._learned = 0
        self.courses = tuple(courses)
        self.ehr = FhirServer(lambda: self._now, port=fhir_port)
        self.archive = SandboxPacs(port=dicom_port)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open both servers; the archive holds every series, the EHR nothing yet."""
        with ExitStack() as opening:
            opening.enter_context(self.ehr)
            opening.enter_context(self.archive)
            for course in self.courses:
                for series in course.ct_series:
                    instances = _instances(course, series)
                    self.archive.add(instances)
                    self.archive.withhold(instances[len(instances) - series.withheld :])
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close both servers."""
        self._stack.close()

    @property
    def patients(self) -> tuple[PatientId, ...]:
        """The ids of all patients, present and to come."""
        return tuple(course.record.person.patient_id for course in self.courses)

    @property
    def to_come(self) -> int:
        """How many events the hospital has not learned yet."""
        return len(self._reveals) - self._learned

    @property
    def unfolded(self) -> bool:
        """Whether the hospital has learned everything."""
        return self.to_come == 0

    def unfold(self, count: int | None = None) -> tuple[Reveal, ...]:
        """Learn the next events, all of them when None; returns what was learned."""
        end = len(self._reveals) if count is None else self._learned + count
        coming = self._reveals[self._learned : end]
        for reveal in coming:
            self._now = max(self._now, reveal.time)
            for resource in reveal.resources:
                kind, identity = str(resource["resourceType"]), str(resource["id"])
                self.ehr.repository.update(kind, identity, dict(resource), None)
        self._learned += len(coming)
        return coming

    def unfold_until_every_patient_is_known(self) -> None:
        """Learn until each course has begun."""
        missing = set(self.patients)
        while missing and not self.unfolded:
            missing -= {reveal.patient_id for reveal in self.unfold(1)}

    def resource(self, reference: str) -> dict[str, object] | None:
        """What the EHR holds under `Type/id`; None when nothing."""
        kind, _, identity = reference.partition("/")
        try:
            return self.ehr.repository.read(kind, identity).resource
        except Refused:
            return None


def _instances(course: SimulatedCourse, series: CtSeries) -> tuple[Dataset, ...]:
    """The series as the archive holds it, under the UIDs and the number the EHR knows.

    A patient has one planted ball, the same in every series, so that a follow-up alone changes no forecast.
    """
    person = course.record.person
    acquired = series.acquired.astimezone(UTC)
    birth = (
        person.birth.midpoint.strftime("%Y%m%d")
        if person.birth and _is_day(person.birth.latest - person.birth.earliest)
        else ""
    )
    options = CtOptions(
        patient_id=person.identifiers[0].value,
        seed=series.seed,
        date=f"{acquired:%Y%m%d}",
        time=f"{acquired:%H%M%S}",
        birth_date=birth,
        sex={"male": "M", "female": "F"}.get(person.sex, ""),
        slices=series.images,
        rows=SERIES_SHAPE[0],
        columns=SERIES_SHAPE[1],
        spacing_mm=(series.spacing_mm, *SERIES_SPACING_MM[1:]),
        blob=planted_ball(course.ct_series[0].seed),
    )
    instances = simulated_ct(options)
    for instance in instances:
        instance.StudyInstanceUID = str(series.study_uid)
        instance.SeriesInstanceUID = str(series.series_uid)
        instance.SeriesDescription = series.description
    return instances


def _is_day(span: timedelta) -> bool:
    return timedelta(0) < span <= timedelta(days=1)
