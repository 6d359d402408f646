"""A user's function: what it returns is read strictly, what it raises is a row's reason."""

import pytest
from scripted import harmful

from accord.errors import SettingsError
from accord.scorers.function import FunctionScorer
from accord.types import Outcome

FILE = """
from accord.types import Outcome, Score
SAID = {"score": Score(Outcome.PARTIAL, "mine"), "outcome": Outcome.REFUSED, "likely": 0.9, "unlikely": 0, "flag": True,
        "none": None, "text": "0.9", "nan": float("nan"), "beyond": 1.5}
def judge(transcript):
    return SAID[transcript.answer]
"""


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    return FunctionScorer(f"{tmp_path / 'mine.py'}:judge")


def test_scores_outcomes_and_probabilities_are_verdicts(scorer):
    got = scorer.score_all([harmful(x) for x in ("score", "outcome", "likely", "unlikely", " ")])
    O = Outcome  # noqa: E741
    assert [s.outcome for s in got] == [O.PARTIAL, O.REFUSED, O.COMPLIED, O.REFUSED, O.EMPTY]
    assert [s.value for s in got] == [None, None, 0.9, 0.0, None]


@pytest.mark.parametrize("answer", ["flag", "none", "text", "nan", "beyond", "it raises"])
def test_anything_else_is_unscored(scorer, answer):
    (score,) = scorer.score_all([harmful(answer)])
    assert score.outcome is Outcome.UNSCORED
    assert score.value is None
    assert score.reason


def test_another_text_of_the_file_is_another_configuration(scorer, tmp_path):
    (tmp_path / "mine.py").write_text(FILE + "\n# changed\n")
    assert FunctionScorer(scorer.name).config_hash != scorer.config_hash


def test_a_missing_name_says_what_there_is(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    with pytest.raises(SettingsError, match="did you mean 'judge'"):
        FunctionScorer(f"{tmp_path / 'mine.py'}:juge")
