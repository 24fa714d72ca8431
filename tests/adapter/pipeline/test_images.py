"""From a series in the archive to a forecast that rests on it, or says that it does not.

On the pretend hospital over real sockets, with the bundle trained on simulated patients.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapter.decider import build_predictor
from adapter.demo import demo_settings, written_result
from adapter.domain.ids import SeriesUid
from adapter.domain.imaging import Volume
from adapter.domain.outcome import Case
from adapter.domain.risk import Outcome
from adapter.errors import BadBundle
from adapter.features.crop import crop_volume
from adapter.fhir.delivery import OutputMode
from adapter.pipeline.assess import StepResult, conclude, decided, described, gather, retrieve
from adapter.pipeline.case_file import CaseFile, SeriesFile, seal, unseal
from adapter.pipeline.decide import Decision
from adapter.pipeline.replay import replay
from adapter.rooms import Rooms
from adapter.sandbox.anatomy import SERIES_SHAPE, draw_neck, planted_ball
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import CourseKind, SimulatedCourse, simulate_courses
from adapter.settings import Settings, settings_from
from adapter.terminology import load_terminology
from inference.artifact import load_bundle, shipped_bundle, simulated_bundle
from inference.predictor import Predictor

_TODAY = datetime(2026, 3, 1, tzinfo=UTC)
_SUPINE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def hospital() -> Iterator[SandboxHospital]:
    """One patient with a CT and the one without; everything is known."""
    courses = simulate_courses(12, seed=7, today=_TODAY)
    kept = [course for course in courses if course.kind in {CourseKind.HIGH, CourseKind.MERGED}]
    with SandboxHospital(kept, load_terminology()) as running:
        running.unfold()
        yield running


@pytest.fixture(scope="module")
def rooms(hospital: SandboxHospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """As the demo opens them."""
    settings = demo_settings(hospital, tmp_path_factory.mktemp("site"))
    with Rooms(settings) as opened:
        assert opened.archive is not None
        hospital.archive.allow(settings.dicom.ae_title, "127.0.0.1", opened.archive.port)
        yield opened


@pytest.fixture(scope="module")
def imaged(hospital: SandboxHospital, rooms: Rooms) -> CaseFile:
    """The patient with a CT, record and images retrieved."""
    return _retrieved(rooms, _course(hospital, CourseKind.HIGH))


def _course(hospital: SandboxHospital, kind: CourseKind) -> SimulatedCourse:
    return next(course for course in hospital.courses if course.kind is kind)


def _kept(rooms: Rooms, result: StepResult) -> CaseFile:
    assert result.settled is None
    return unseal(rooms.store.vault.recall(result.case_file), CaseFile)


def _retrieved(rooms: Rooms, course: SimulatedCourse) -> CaseFile:
    case = Case(patient_id=course.record.person.patient_id, revision=1)
    gathered = gather(case, rooms.ports)
    return _kept(rooms, retrieve(case, _kept(rooms, gathered), rooms.ports))


def _decision(rooms: Rooms, case_file: CaseFile) -> Decision:
    decision = decided(case_file, rooms.ports)
    assert isinstance(decision, Decision)
    return decision


def _recurrence(decision: Decision) -> float:
    return decision.forecast.probability(Outcome.RECURRENCE, 36)


def _drawn_crop(course: SimulatedCourse) -> NDArray[np.float32]:
    """What the encoder was trained to see: the same anatomy, drawn without any DICOM."""
    series = course.ct_series[0]
    spacing = (series.spacing_mm, 3.5, 3.5)
    voxels = draw_neck(
        (series.images, *SERIES_SHAPE),
        spacing,
        blob=planted_ball(series.seed),
        chance=np.random.default_rng([series.seed, 1, 1]),
    )
    volume = Volume(
        series_uid=SeriesUid("1.2.3"),
        modality="CT",
        voxels=voxels.astype(np.float32),
        spacing_mm=spacing,
        origin_mm=(0.0, 0.0, 0.0),
        direction=_SUPINE,
    )
    grid = load_bundle(simulated_bundle()).contract.image
    assert grid is not None
    return crop_volume(volume, shape=grid.shape, spacing_mm=grid.spacing_mm, window_hu=grid.window_hu)


def test_a_series_that_came_by_c_move_is_what_the_encoder_was_trained_on(
    hospital: SandboxHospital, rooms: Rooms, imaged: CaseFile
) -> None:
    """Written to DICOM, moved, sealed, read: the embedding is that of the drawn anatomy, bit for bit."""
    (image,) = described(imaged, rooms.ports)
    direct = rooms.ports.predictor.embed(_drawn_crop(_course(hospital, CourseKind.HIGH)))
    assert image.embedding == tuple(direct.tolist())


def test_the_forecast_rests_on_the_image_and_says_so(rooms: Rooms, imaged: CaseFile) -> None:
    """It differs from the forecast without one, cites the series, misses no image, and is called simulated."""
    decision, blind = _decision(rooms, imaged), _decision(rooms, replace(imaged, series=()))
    assert abs(_recurrence(decision) - _recurrence(blind)) > 0.01
    assert "image" not in decision.forecast.missing
    assert "image" in blind.forecast.missing
    (image,) = described(imaged, rooms.ports)
    content = decision.bundle.content.decode()
    assert f"urn:oid:{image.series_uid}" in content
    assert "Model trained on simulated data." in content


def test_the_demo_names_the_ct_that_was_used(hospital: SandboxHospital, rooms: Rooms, imaged: CaseFile) -> None:
    """By what the EHR was given; and where there was none, that there was none."""
    course = _course(hospital, CourseKind.HIGH)
    (image,) = described(imaged, rooms.ports)
    used = next(series for series in course.ct_series if series.series_uid == image.series_uid)
    assert _as_shown(hospital, _decision(rooms, imaged)) == f"{used.description}, {used.acquired:%Y-%m-%d}"
    assert _as_shown(hospital, _decision(rooms, replace(imaged, series=()))) == "none: forecast without image"


def _as_shown(hospital: SandboxHospital, decision: Decision) -> str:
    """The demo's column, once the transaction is in the pretend EHR."""
    resources = [entry["resource"] for entry in json.loads(decision.bundle.content)["entry"]]
    for resource in resources:
        hospital.ehr.repository.update(resource["resourceType"], resource["id"], resource, None)
    (risk,) = [resource for resource in resources if resource["resourceType"] == "RiskAssessment"]
    return written_result(hospital, risk["id"].removeprefix("ra-"))[0]


def test_a_patient_without_ct_gets_the_fall_back(hospital: SandboxHospital, rooms: Rooms) -> None:
    """Forecast by the learned absence, with the image named as not known."""
    case_file = _retrieved(rooms, _course(hospital, CourseKind.MERGED))
    assert case_file.image_notes == ("no-usable-series",)
    decision = _decision(rooms, case_file)
    assert "image" in decision.forecast.missing
    assert "This model uses images, and made this forecast without one." in decision.bundle.content.decode()


def test_a_series_without_geometry_leaves_the_patient_a_forecast(rooms: Rooms, imaged: CaseFile) -> None:
    """A slice is lost in the archive itself: no volume, the reason by name, and the forecast without an image."""
    series = unseal(rooms.store.vault.recall(imaged.series[0]), SeriesFile)
    ref = replace(series.ref, instance_uids=series.ref.instance_uids[:7] + series.ref.instance_uids[9:])
    gap = replace(series, ref=ref, files=series.files[:7] + series.files[9:])
    broken = replace(imaged, series=(rooms.store.vault.keep(seal(gap)),))
    assert described(broken, rooms.ports) == ()
    decision, blind = _decision(rooms, broken), _decision(rooms, replace(imaged, series=()))
    assert _recurrence(decision) == _recurrence(blind)
    assert "image" in decision.forecast.missing
    assert "series-without-geometry 1" in decision.bundle.content.decode()


def test_a_series_without_geometry_is_no_error_for_a_model_that_reads_none(rooms: Rooms, imaged: CaseFile) -> None:
    """The shipped model forecasts as if there were no series, and the result still names it."""
    series = unseal(rooms.store.vault.recall(imaged.series[0]), SeriesFile)
    one = replace(series, ref=replace(series.ref, instance_uids=series.ref.instance_uids[:1]), files=series.files[:1])
    alone = replace(imaged, series=(rooms.store.vault.keep(seal(one)),))
    ports = replace(rooms.ports, predictor=Predictor(load_bundle(shipped_bundle())))
    decision = decided(alone, ports)
    assert isinstance(decision, Decision)
    assert "image" not in decision.forecast.missing
    assert "series-without-geometry 1" in decision.bundle.content.decode()


def test_a_forecast_from_an_image_replays_to_the_same_bytes(rooms: Rooms, imaged: CaseFile) -> None:
    """From the vault alone, encoder and all."""
    assert replay(conclude(imaged, rooms.ports).case_file, rooms.ports).identical


def test_a_case_gathered_before_an_upgrade_replays_by_what_decided_it(rooms: Rooms, imaged: CaseFile) -> None:
    """The record was read under another practice and model; the case file names those that made the forecast."""
    earlier = replace(imaged, practice="0" * 64, model="0" * 64)
    assert replay(conclude(earlier, rooms.ports).case_file, rooms.ports).identical


@pytest.mark.parametrize("mode", [OutputMode.RESEARCH, OutputMode.LIVE])
def test_the_simulated_bundle_is_refused_outside_demo_mode(mode: OutputMode, tmp_path: Path) -> None:
    """However it is named in the settings."""
    settings = _settings(mode, tmp_path)
    with pytest.raises(BadBundle, match="refused outside demo mode"):
        build_predictor(settings)


def test_every_other_mode_gets_the_real_bundle_by_default(tmp_path: Path) -> None:
    """The simulated one lies beside it and is not chosen."""
    chosen = build_predictor(_settings(OutputMode.RESEARCH, tmp_path, named=False))
    assert chosen.identity.training_data == "real"
    assert chosen.contract.image is None


def _settings(mode: OutputMode, folder: Path, *, named: bool = True) -> Settings:
    return settings_from(
        {
            "mode": mode.value,
            "fhir": {"base_url": "https://ehr.example/fhir"},
            "cohort": {"patients": ["Patient/p1"]},
            "store": {
                "url": f"sqlite:///{folder}/adjuvant.db",
                "folder": str(folder),
                "key_file": str(folder / "site.key"),
            },
            **({"model": {"folder": str(simulated_bundle())}} if named else {}),
        }
    )
