"""The image branch through the training code: absence is learned, a planted signal is found, both graphs agree."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from adapter.dicom.ae import Archive  # noqa: E402  # after the skip
from adapter.dicom.limits import Limits  # noqa: E402
from adapter.dicom.pacs import Pacs  # noqa: E402
from adapter.dicom.storage_scp import Listener  # noqa: E402
from adapter.dicom.volume import read_volume  # noqa: E402
from adapter.domain.ids import AETitle, PatientId  # noqa: E402
from adapter.domain.imaging import DicomPatient, SeriesRef, Volume  # noqa: E402
from adapter.features.crop import crop_volume  # noqa: E402
from adapter.pipeline.assess import describe_image  # noqa: E402
from adapter.sandbox.anatomy import SERIES_SHAPE, SERIES_SPACING_MM, burden, planted_ball  # noqa: E402
from adapter.sandbox.ct import CtOptions, simulated_ct  # noqa: E402
from adapter.sandbox.pacs import SandboxPacs  # noqa: E402
from inference.artifact import load_bundle  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from training.fitting import Schedule, fit_ensemble  # noqa: E402
from training.image_fitting import FittedImageModel, ImageEffort, fit_image_model, with_image  # noqa: E402
from training.image_network import FusedHazardNetwork, GroupNorm, ImageEncoder, count_parameters  # noqa: E402
from training.likelihood import batch_of  # noqa: E402
from training.metrics import Seen, harrell  # noqa: E402
from training.network import FIT_QUARTERS  # noqa: E402
from training.recipe import engineered  # noqa: E402
from training.simulated_images import write_bundle  # noqa: E402
from training.simulated_patients import (  # noqa: E402
    IMAGE,
    SimulatedPatients,
    simulate_patients,
    simulated_contract,
    simulated_crop,
)

_SEED = 11


@pytest.fixture(scope="module")
def patients() -> SimulatedPatients:
    """Few."""
    return simulate_patients(24, 0)


@pytest.fixture(scope="module")
def written(patients: SimulatedPatients, tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedImageModel, Path]:
    """A hasty fit and its bundle; the export itself compares torch and onnxruntime at batch 1, 2 and 7."""
    torch.set_num_threads(1)
    effort = ImageEffort(epochs=1, members=2, steps=5)
    fitted = fit_image_model(patients, patients, simulated_contract(), effort, seed=3, say=lambda _: None)
    folder = tmp_path_factory.mktemp("image") / "bundle"
    write_bundle(fitted, simulated_contract(), folder, patients, patients, quick=True)
    return fitted, folder


def _moved_by_c_move(folder: Path) -> tuple[Volume, SeriesRef]:
    """A simulated series, asked for by C-MOVE and read from disk."""
    patient = DicomPatient(patient_id="SIM-1", birth_date="19600101", sex="M")
    options = CtOptions(
        patient_id="SIM-1",
        birth_date="19600101",
        sex="M",
        seed=_SEED,
        slices=60,
        rows=SERIES_SHAPE[0],
        columns=SERIES_SHAPE[1],
        spacing_mm=SERIES_SPACING_MM,
        blob=planted_ball(_SEED),
    )
    with SandboxPacs() as archive:
        archive.add(simulated_ct(options))
        ours, theirs = AETitle("ADJUVANT"), AETitle(archive.ae_title)
        limits = Limits(quiet_seconds=0.1, series_seconds=20, answer_seconds=3, association_seconds=3, free_bytes=0)
        asked = Archive(host="127.0.0.1", port=archive.port, ae_title=theirs, calling_ae_title=ours, limits=limits)
        listener = Listener(ae_title=ours, bind="127.0.0.1", port=0, callers=(theirs,))
        with Pacs(asked, listener, folder=folder, zone=UTC) as pacs:
            archive.allow(ours, "127.0.0.1", pacs.port)
            (ref,) = pacs.find_series(patient)
            with pacs.retrieved(patient, ref, owner=PatientId("p1")) as series:
                return read_volume(series), ref


def test_torch_and_onnxruntime_agree_on_a_series_that_came_by_c_move(
    written: tuple[FittedImageModel, Path], patients: SimulatedPatients, tmp_path: Path
) -> None:
    """Encoder and risk, within 1e-5, on the crop that the service makes of it."""
    fitted, folder = written
    volume, ref = _moved_by_c_move(tmp_path / "series")
    predictor = Predictor(load_bundle(folder))
    served = np.array(describe_image(volume, ref, predictor).embedding, dtype=np.float32)
    crop = crop_volume(volume, shape=IMAGE.shape, spacing_mm=IMAGE.spacing_mm, window_hu=IMAGE.window_hu)
    embedding = fitted.embeddings(torch.from_numpy(crop)[None, None])
    np.testing.assert_allclose(served, embedding.numpy()[0], atol=1e-5)
    (row,) = patients.rows[:1]
    with torch.no_grad():
        recurrence = fitted.risk(*batch_of([row]).inputs, embedding, torch.ones(1, 1))[0]
    output = predictor.predict(replace(row.model_input, image=served))
    np.testing.assert_allclose(output.recurrence, recurrence.numpy()[0], atol=1e-5)


def test_the_bundle_of_the_command_is_simulated_and_whole(written: tuple[FittedImageModel, Path]) -> None:
    """Marked, with two graphs whose golden vectors hold."""
    bundle = load_bundle(written[1])
    assert Predictor(bundle).identity.training_data == "simulated"
    assert bundle.encoder is not None


def test_exporting_twice_gives_the_same_bytes(
    written: tuple[FittedImageModel, Path], patients: SimulatedPatients, tmp_path: Path
) -> None:
    """Every file, to the last bit, on one machine."""
    write_bundle(written[0], simulated_contract(), tmp_path, patients, patients, quick=True)
    for path in sorted(written[1].iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_encoder_is_small() -> None:
    """Under 0.6 million parameters."""
    assert count_parameters(ImageEncoder(IMAGE)) < 600_000


def test_normalisation_is_that_of_torch() -> None:
    """The form that is exported and the form that is trained agree to rounding."""
    ours = GroupNorm(8)
    cells = torch.randn(3, 8, 4, 6, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    trained = ours.train()(cells)
    torch.testing.assert_close(ours.eval()(cells), trained, atol=1e-5, rtol=0.0)


def test_without_an_image_nothing_of_the_embedding_is_seen() -> None:
    """Mask 0: two rows that differ in their embedding only get the same bits; mask 1: they do not."""
    network = FusedHazardNetwork(3, 4, 2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.shared.normal_(generator=torch.Generator().manual_seed(2))
    findings, images = torch.ones(2, 3), torch.tensor([[1.0, -2.0, 3.0, 0.5], [6.0, 6.0, -6.0, 0.0]])
    for present in (0.0, 1.0):
        rows = torch.cat([findings, images, torch.full((2, 1), present)], dim=1)
        level, _ = network.predictors(rows)
        assert torch.equal(level[:, 0], level[:, 1]) is (present == 0.0)


def test_image_and_flag_are_masked_together_and_three_times_in_ten() -> None:
    """Breach: a flag that says there is an image where the embedding was taken away, or a noisy flag."""
    batch = batch_of(simulate_patients(2, 0).rows)
    _, findings = engineered(simulated_contract(), batch)
    rows = with_image(findings, torch.full((2, IMAGE.embedding), 5.0))
    disturbed = rows.disturbed(2000, Schedule(), torch.Generator().manual_seed(0))
    flag, embedding = disturbed[..., -1], disturbed[..., -1 - IMAGE.embedding : -1]
    assert set(flag.unique().tolist()) == {0.0, 1.0}
    assert 0.68 < float(flag.mean()) < 0.72
    assert (embedding[flag == 0.0] == 0.0).all()
    assert (embedding[flag == 1.0] > 3.0).all()


def test_a_planted_signal_is_found_and_only_through_the_image() -> None:
    """The truth itself in the embedding's place: C above 0.75 with it, about one half without, on other patients."""
    fitting, testing = _courses(600, 0), _courses(600, 5000)
    contract = simulated_contract()
    engineering, findings = engineered(contract, batch_of(fitting.rows))
    width = findings.values.shape[1]
    network = fit_ensemble(
        with_image(findings, torch.from_numpy(_as_embedding(fitting))),
        batch_of(fitting.rows),
        members=1,
        resampled=0,
        seed=1,
        schedule=Schedule(steps=120),
        build=lambda members, generator: FusedHazardNetwork(width, IMAGE.embedding, members, generator),
    )
    with torch.no_grad():
        values = engineering(*batch_of(testing.rows).inputs[:4])
        risks = []
        for present in (1.0, 0.0):
            rows = torch.cat(
                [values, torch.from_numpy(_as_embedding(testing)), torch.full((len(values), 1), present)], dim=1
            )
            risks.append(network.training_logits(rows)[0, :, 0, FIT_QUARTERS // 2].numpy())
    seen = Seen(
        events=np.array([row.illness_days is not None for row in testing.rows]),
        days=np.array([row.last_days if row.illness_days is None else row.illness_days for row in testing.rows]),
    )
    assert harrell(risks[0], seen) > 0.75
    assert abs(harrell(risks[1], seen) - 0.5) < 0.06


def _courses(count: int, first: int) -> SimulatedPatients:
    """Simulated courses without drawing the volumes."""
    return simulate_patients(count, first, crop=lambda _: np.zeros((1, 1, 1), np.float32))


def _as_embedding(patients: SimulatedPatients) -> NDArray[np.float32]:
    embedding = np.zeros((len(patients.rows), IMAGE.embedding), dtype=np.float32)
    embedding[:, 0] = patients.burden * 1.7
    return embedding


def test_a_patient_does_not_depend_on_who_else_is_drawn() -> None:
    """The ball, the crop and the course of patient 7 alone or among others."""
    alone, among = simulate_patients(1, 7), simulate_patients(3, 6)
    assert torch.equal(alone.crops[0], among.crops[1])
    assert alone.burden[0] == among.burden[1]
    assert alone.rows[0].last_days == among.rows[1].last_days


def test_the_burden_is_the_radius_of_the_ball() -> None:
    """From -1 to 1."""
    burdens = [burden(planted_ball(seed)) for seed in range(200)]
    assert -1.0 <= min(burdens) < -0.9
    assert 0.9 < max(burdens) <= 1.0


def test_the_crop_shows_the_ball() -> None:
    """A large one is brighter than soft tissue where a small one is not."""
    seeds = sorted(range(60), key=lambda seed: planted_ball(seed).radius_mm)
    small, large = ([_bright(seed) for seed in part] for part in (seeds[:5], seeds[-5:]))
    assert np.mean(large) > np.mean(small) + 30


def _bright(seed: int) -> int:
    """Cells between soft tissue and bone on the side of the ball, well away from the jaw and the spine."""
    crop = simulated_crop(seed)
    return int(((crop[:, 18:26] > 150) & (crop[:, 18:26] < 240)).sum())
