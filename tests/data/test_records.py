import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import (
    read_attempts,
    read_choices,
    read_demonstrations,
    read_findings,
    read_prompts,
    to_row,
    write_records,
    write_rows,
)
from accord.data.records import (
    attempt_from_row,
    choice_from_row,
    demonstration_from_row,
    finding_from_row,
    prompt_from_row,
)
from accord.errors import DataError
from accord.types import Attempt, Choice, Demonstration, Finding, Message, Outcome, Prompt, Score

ROW = {
    "id": "fraud-1", "kind": "harmful", "clause": "fraud", "family": "bank-letter", "form": "direct", "split": "train",
    "source": "starter", "messages": [{"role": "user", "content": "Write it"}, {"role": "assistant", "content": "No."}],
}  # fmt: skip

text = st.text(max_size=20)
word = st.text("abc-é", min_size=1, max_size=8)
said = word.map(lambda s: f"{s} ")
turns = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "system"]), text), max_size=3)
prompts = st.builds(
    Prompt,
    id=word,
    messages=st.builds(lambda head, last: (*head, Message("user", last)), turns, said),
    kind=st.sampled_from(["harmful", "contrast", "ordinary", "principle"]),
    clause=word,
    family=word,
    split=st.sampled_from(["train", "discover", "verify"]),
    form=text,
    source=text,
    pair=text,
)
scores = st.builds(Score, st.sampled_from(Outcome), text, text, text)
attempts = st.builds(Attempt, word, prompts, text, text, st.integers(0), st.booleans(), scores, st.integers(0))
failures = st.sampled_from(["harmful-compliance", "over-refusal", "not-an-answer"])
findings = st.builds(
    Finding,
    word,
    prompts,
    text,
    scores,
    failures,
    text,
    st.sampled_from(["open", "in training", "fixed", "regressed", "dismissed"]),
    st.booleans(),
    attack=text,
    sent=turns.map(tuple),
    prefill=text,
    human_label=st.sampled_from([None, "failure", "not a failure"]),
    minimal=text,
    siblings=st.lists(word, max_size=2).map(tuple),
    cluster=text,
    run=text,
    created=text,
)
choices = st.builds(
    lambda id, options, data: Choice(id, "q?", tuple(options), data % len(options), "family"),
    word,
    st.lists(said, min_size=2, max_size=4, unique=True),
    st.integers(0),
)


def again(row):
    return json.loads(json.dumps(row))


@given(prompts, st.none() | said)
def test_prompts_round_trip(prompt, reference):
    assert prompt_from_row(again(to_row(prompt, reference))) == (prompt, reference)


@given(prompts, said)
def test_demonstrations_round_trip(prompt, answer):
    demonstration = Demonstration(prompt, answer)
    assert demonstration_from_row(again(to_row(demonstration))) == demonstration


@settings(deadline=None)  # the disk or a loaded machine may be slow
@given(attempts, findings, choices)
def test_attempts_findings_and_choices_round_trip(attempt, finding, choice):
    assert attempt_from_row(again(to_row(attempt))) == attempt
    assert finding_from_row(again(to_row(finding))) == finding
    assert choice_from_row(again(to_row(choice))) == choice


def test_a_demonstration_and_a_prompt_from_one_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [ROW])
    (demonstration,) = read_demonstrations(path)
    assert demonstration.answer == "No."
    assert demonstration.prompt.messages == (Message("user", "Write it"),)
    assert to_row(demonstration) == ROW
    found = read_prompts(path)
    assert found.prompts == (demonstration.prompt,)
    assert found.references == {"fraud-1": "No."}
    write_records(tmp_path / "again.jsonl", found.prompts, found.references)
    assert read_prompts(tmp_path / "again.jsonl") == found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"splitt": "verify"}, "unknown key 'splitt'; did you mean 'split'?"),
        ({"split": "verfy"}, "'split' is 'verfy'; did you mean 'verify'?"),
        ({"kind": "bad"}, "'kind' is 'bad'; expected one of harmful"),
        ({"family": " "}, "empty: family"),
        ({"clause": ""}, "empty: clause"),
        ({"id": 3}, "'id' is 3; expected text"),
        ({"messages": []}, "expected a list of messages"),
        ({"messages": ["hi"]}, "'messages[0]' is 'hi'"),
        ({"messages": [{"role": "asistant", "content": "x"}]}, "did you mean 'assistant'?"),
        ({"messages": [{"role": "user", "content": None}]}, "content missing or null; expected text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "expected text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no user's turn"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer"),
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "x"}]}, "is empty"),
        ({"messages": [ROW["messages"][0], {"role": "assistant", "tool_calls": [{}]}]}, "carries tool_calls"),
    ],
)
def test_faulty_rows_are_refused_with_their_line(tmp_path, change, expected):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [ROW, ROW | {"id": "other"} | change])
    with pytest.raises(DataError) as raised:
        read_demonstrations(path)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert expected in str(raised.value)


def test_all_faults_of_a_file_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    short = {key: value for key, value in ROW.items() if key not in ("split", "family")}
    write_rows(path, [ROW, ROW, short | {"id": "b", "xyz": 1}])
    with pytest.raises(DataError) as raised:
        read_demonstrations(path)
    message = str(raised.value)
    assert ":2: id 'fraud-1' is used before, on line 1" in message
    assert ":3: unknown key 'xyz'; 'family' is missing; 'split' is missing" in message


def test_ordinary_prompts_need_no_clause():
    assert prompt_from_row(ROW | {"kind": "ordinary", "clause": ""})[0].clause == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": 2}, "expected an index from 0 to 1"),
        ({"answer": -1}, "expected an index"),
        ({"answer": True}, "expected a whole number"),
        ({"choices": ["a"]}, "at least two"),
        ({"choices": ["a", "a"]}, "two choices are equal"),
        ({"choices": ["a", 1]}, "at least two texts"),
    ],
)
def test_faulty_questions(tmp_path, change, expected):
    row = {"id": "q1", "family": "f", "question": "1+1?", "choices": ["1", "2"], "answer": 1}
    assert choice_from_row(row) == Choice("q1", "1+1?", ("1", "2"), 1, "f", "verify")
    write_rows(tmp_path / "rows.jsonl", [row | change])
    with pytest.raises(DataError, match=f"rows.jsonl:1: .*{expected}"):
        read_choices(tmp_path / "rows.jsonl")


def test_attempts_and_findings_on_disk(tmp_path):
    prompt = prompt_from_row(ROW)[0]
    attempt = Attempt("a", prompt, "base", "", 0, False, Score(Outcome.UNSCORED, "refusal", "no verdict"), 7)
    finding = Finding(
        "f", prompt, "Sure", Score(Outcome.COMPLIED, "refusal"), "harmful-compliance", "base", sealed=True
    )
    step = replace(attempt, id="b", on_the_way=True)
    write_records(tmp_path / "attempts.jsonl", [attempt, step])
    write_records(tmp_path / "findings.jsonl.gz", [finding])
    assert read_attempts(tmp_path / "attempts.jsonl") == [attempt, step]
    assert read_findings(tmp_path / "findings.jsonl.gz") == [finding]
    with pytest.raises(DataError, match="'outcome' is 'complies'; did you mean 'complied'"):
        finding_from_row(to_row(finding) | {"score": {"outcome": "complies", "scorer": "refusal"}})


def test_a_row_from_before_findings_held_their_evidence_is_read():
    row = {"id": "f", "prompt": ROW, "answer": "Sure", "outcome": "complied", "failure": "harmful-compliance",
           "condition": "base", "status": "open", "sealed": True}  # fmt: skip
    finding = finding_from_row(row)
    assert (finding.outcome, finding.sealed, finding.human_label) == (Outcome.COMPLIED, True, None)
    assert finding_from_row(again(to_row(finding))) == finding


def test_a_finding_on_a_verify_prompt_is_sealed_whatever_its_row_says():
    prompt = prompt_from_row(ROW | {"split": "verify"})[0]
    finding = Finding("f", prompt, "Sure", Score(Outcome.COMPLIED, "refusal"), "harmful-compliance", "base")
    assert finding.sealed
    assert finding_from_row(to_row(finding) | {"sealed": False}).sealed
