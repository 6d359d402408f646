"""Reading people's labels: each format, and errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.errors import DataError
from accord.scorers.labels import read_labels

HEADER = "id,type,prompt,completion,annotation_1,annotation_2,agreement,final_label\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_xstest_csv_with_a_completion_over_several_lines(tmp_path: Path) -> None:
    text = HEADER + 'v2-1,x,Hi?,"One\nTwo",a,b,c,1_full_compliance\nv2-2,x,Ho?,No.,a,b,c,2_full_refusal\n'
    first, second = read_labels(write(tmp_path, "a.csv", text))
    assert (first.answer, first.label) == ("One\nTwo", "complied")
    assert second.label == "refused"
    assert second.where.endswith("a.csv, line 4")


def test_own_jsonl_and_human_scores(tmp_path: Path) -> None:
    own = '{"prompt": "p", "answer": "a\u2028b", "label": "partial"}\n\n'
    human = '{"objective": "o", "response": "r", "human_scores": [1, 1.0, 0]}\n'
    got = read_labels(write(tmp_path, "a.jsonl", own + human))
    assert [(row.prompt, row.answer, row.label) for row in got] == [("p", "a\u2028b", "partial"), ("o", "r", "refused")]
    split = '{"objective": "o", "response": "r", "human_scores": [1, 0]}'
    assert read_labels(write(tmp_path, "b.jsonl", split))[0].label == "partial"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "prompt,completion\nx,y\n", "line 1: no column final_label"),
        ("a.csv", HEADER + "v2-1,x,Hi?,Yes,a,b,c,full\n", "line 2: label 'full' unknown"),
        ("a.csv", HEADER + "v2-1,x,Hi?\n", "line 2: 'completion' is missing"),
        ("a.csv", HEADER, "no labelled answer"),
        ("a.csv", "", "line 1: no column"),
        ("a.jsonl", "", "no labelled answer"),
        ("a.jsonl", '\n{"prompt": "p"', "line 2: not JSON"),
        ("a.jsonl", "[1]", "line 1: a list, not an object"),
        ("a.jsonl", '{"prompt": "p", "answer": "a", "label": "refusd"}', "did you mean 'refused'"),
        ("a.jsonl", '{"prompt": "p", "answer": null, "label": "refused"}', "'answer' is missing"),
        ("a.jsonl", '{"prompt": 3, "answer": "a", "label": "refused"}', "'prompt' is no text"),
        ("a.jsonl", '{"objective": "p", "response": "a", "human_scores": []}', "human_scores is []"),
        ("a.jsonl", '{"objective": "p", "response": "a", "human_scores": [NaN]}', "human_scores is [nan]"),
        ("a.jsonl", '{"objective": "p", "response": "a", "human_scores": [true]}', "human_scores is [True]"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path, name, text))
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_labels(tmp_path / "absent.csv")


def test_several_raters_and_strata_are_kept(tmp_path: Path) -> None:
    text = HEADER + "v2-1,homonyms,Hi?,Yes,1_full_compliance,2_full_refusal,FALSE,1_full_compliance\n"
    row = read_labels(write(tmp_path, "a.csv", text))[0]
    assert row.ratings == (0.0, 1.0)
    assert row.strata == {"set": "a", "hazard": "homonyms"}


def test_a_row_may_say_what_kind_of_prompt_it_answers_and_under_which_clause(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = '"prompt": "p", "answer": "a", "label": "refused"'
    path.write_text(f'{{{row}, "kind": "contrast", "clause": "fraud"}}\n{{{row}}}\n')
    said = [row.transcript for row in read_labels(path)]
    assert [(t.kind, t.clause) for t in said] == [("contrast", "fraud"), ("harmful", "")]
    path.write_text(f'{{{row}, "kind": "harmfull"}}\n')
    with pytest.raises(DataError, match="kind 'harmfull' unknown"):
        read_labels(path)


def test_other_questions(tmp_path: Path) -> None:
    """Harm 0.25 0.5 0.75 has mean one half, which is harmful; one score alone is a verdict, not several raters."""
    text = (
        '{"objective": "o", "response": "r", "human_scores": [0.25, 0.5, 0.75], "set": "S", "harm_category": "SEXUAL"}\n'
        '{"objective": "o", "response": "r", "human_scores": [0.25], "set": "t", "harm_category": null}\n'
        '{"prompt": "p", "answer": "a", "label": "yes"}\n'
    )
    first, second, third = read_labels(write(tmp_path, "a.jsonl", text), "harm")
    assert (first.label, first.ratings, first.strata) == ("yes", (0.25, 0.5, 0.75), {"set": "s", "hazard": "sexual"})
    assert (second.label, second.ratings, second.strata) == ("no", (), {"set": "t"})
    assert third.label == "yes"
    with pytest.raises(DataError, match="label 'refused' unknown"):
        read_labels(write(tmp_path, "b.jsonl", '{"prompt": "p", "answer": "a", "label": "refused"}'), "harm")
    with pytest.raises(DataError, match="says what was refused"):
        read_labels(write(tmp_path, "a.csv", HEADER), "objective")
