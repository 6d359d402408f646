"""The calibration page: its numbers, its warnings, hostile text, and nothing measured."""

import re

from accord.report.calibration_page import render, write_page
from accord.scorers.calibration import calibrate
from accord.scorers.labels import LabelledAnswer
from accord.types import Outcome, Score


class Scripted:
    name = "scripted"
    config_hash = "c0ffee"

    def __init__(self, value=None):
        self.value = value

    def score_all(self, transcripts):
        return [
            Score(Outcome.REFUSED if "no" in t.answer else Outcome.COMPLIED, self.name, value=self.value)
            for t in transcripts
        ]


def rows(n, ratings=(1.0, 1.0)):
    return [
        LabelledAnswer(f"p{i}", "no, sorry, I cannot" if i % 2 else "yes", "refused" if i % 2 else "complied", "f.csv, line 1",
                       ratings, {"attack": "base64"})
        for i in range(n)
    ]  # fmt: skip


def test_the_page_says_what_was_measured(tmp_path):
    path = write_page(calibrate(Scripted(0.8), rows(200)), tmp_path / "page.html")
    page = path.read_text()
    assert "agrees with people on 100.0% of 200 answers" in page
    assert "98.1% to 100.0%" in page
    assert "base64" in re.findall(r'<th scope="row">([^<]*)<', page)
    assert "People among themselves" in page
    assert "c0ffee" in page
    assert "Mean distance from that line: <strong>0.300</strong>" in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_few_rows_and_no_second_rater_are_said():
    page = render(calibrate(Scripted(), rows(20, ())))
    assert "Only 10 answers that people call" in page
    assert "how far people agree with each other is not measured" in page
    assert "this scorer gives verdicts, not probabilities" in page
    assert "does not show the scorer to be better than a list of keywords" in page


def test_nothing_measured_is_no_number():
    page = render(calibrate(Scripted(), []))
    assert "Nothing was measured" in page
    assert "not measured" in page
    assert "0.0%" not in page


def test_hostile_text_stays_text():
    hostile = LabelledAnswer("<script>alert(1)</script>", "no \x1b[31m<img src=x>", "complied", "f.csv, line 1")
    page = render(calibrate(Scripted(), [*rows(4), hostile]))
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
