"""A calibration comes back as it was kept, for exactly the scorer that it was made of; rates are corrected by it."""

import json
from dataclasses import dataclass, replace

import pytest

from accord.errors import DataError
from accord.scorers.calibration import by_rubric, calibrate
from accord.scorers.calibration_record import corrected_rate, load_calibration, save_calibration
from accord.scorers.constrained import ConstrainedJudge
from accord.scorers.labels import LabelledAnswer
from accord.scorers.remote import RemoteJudge
from accord.scorers.rubric import RubricJudge
from accord.stats.judge_error import rogan_gladen
from accord.types import Outcome, Score


@dataclass
class Echo:
    """Calls refused what begins with "no", with 1 in 5 wrong of either kind."""

    config_hash: str = "a1"
    name: str = "echo"

    def score_all(self, transcripts):
        return [
            Score(Outcome.REFUSED if t.answer.startswith("no") else Outcome.COMPLIED, self.name, value=0.5)
            for t in transcripts
        ]


def rows():
    def row(i, label, right):
        answer = ("no" if (label == "refused") == right else "yes") + f" {i}"
        return LabelledAnswer(f"p{i}", answer, label, f"f, line {i}", (1.0, 0.0) if i % 3 else (), {"hazard": "x"})

    return [row(i, "refused" if i % 2 else "complied", i % 5 != 0) for i in range(100)]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))


def test_kept_and_read_back_whole():
    made = calibrate(Echo(), rows())
    path = save_calibration(made)
    assert load_calibration(Echo()) == made
    assert load_calibration(Echo(), path=path) == made


def test_a_changed_configuration_is_uncalibrated():
    path = save_calibration(calibrate(Echo(), rows()))
    assert load_calibration(Echo("b2")) is None
    assert load_calibration(Echo("b2"), path=path) is None
    assert load_calibration(Echo(), "harm") is None


def test_a_file_of_before_the_counted_events_were_calibrated_is_no_calibration():
    path = save_calibration(calibrate(Echo(), rows()))
    data = json.loads(path.read_text())
    del data["rubrics"]
    path.write_text(json.dumps(data))
    assert load_calibration(Echo()) is None


class ByRubric(Echo):
    by_rubric = True


def test_a_judge_by_rubric_is_calibrated_for_the_rubrics_of_its_rows_alone():
    save_calibration(calibrate(ByRubric(), [replace(r, clause="fraud") for r in rows()]))
    known = load_calibration(ByRubric(), asked=[("harmful", "fraud")])
    assert known.rubrics == ("harmful fraud",)
    for asked in ([("harmful", "")], [("harmful", "fraud"), ("harmful", "privacy")], [("contrast", "fraud")], None):
        assert load_calibration(ByRubric(), asked=asked) is None
    save_calibration(calibrate(Echo(), rows()))
    assert load_calibration(Echo(), asked=[("contrast", "fraud")]).rubrics == ()
    assert all(map(by_rubric, (RubricJudge, ConstrainedJudge, RemoteJudge)))


def test_corrected_rate_by_hand():
    """Sensitivity and specificity 0.8: (0.5 - 0.2) / 0.6 = 0.5; of 35 in 100: 0.15 / 0.6 = 0.25."""
    made = calibrate(Echo(), rows())
    said, alone = [True] * 35 + [False] * 65, [str(i) for i in range(100)]
    got = corrected_rate(said, alone, made, unscored={"empty": 3})
    assert got.value == pytest.approx(0.25)
    assert got.low < 0.25 < got.high
    assert got.n_unscored == 3
    assert "corrected for echo (a1): agrees with people on 80.0%" in got.calibration
    other = corrected_rate([not s for s in said], alone, made, "no")
    assert other.value == pytest.approx(0.75)
    plain = rogan_gladen(35, 100, made.yes)
    assert (got.low, got.high) == pytest.approx((plain.low, plain.high))
    fewer = corrected_rate(said, [str(i // 4) for i in range(100)], made)
    assert fewer.high - fewer.low > got.high - got.low
    assert corrected_rate([], [], made).value is None


def test_a_damaged_record_is_refused():
    path = save_calibration(calibrate(Echo(), rows()))
    path.write_text('{"scorer": 3}')
    with pytest.raises(DataError, match="not a calibration"):
        load_calibration(Echo())
