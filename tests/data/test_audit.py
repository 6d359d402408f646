import json

import pytest

from accord.data.audit import audit
from accord.data.examples import read_examples
from accord.data.flaws import CODES
from accord.errors import DataError, SettingsError
from accord.models.chat import ChatFormat
from accord.models.load import load_tokenizer


@pytest.fixture(scope="module")
def chat():
    return ChatFormat(load_tokenizer("starter"))


@pytest.fixture
def read(tmp_path):
    def read(*rows, name="rows.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
        return read_examples(tmp_path / name)

    return read


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def lines(report):
    return {f.code: [flaw.line for flaw in f.flaws] for f in report.flaws}


def test_clean_rows_have_no_flaw_and_their_counts_are_told(read, chat):
    report = audit(read(pair("a?", "one two", "three"), pair("b?", "four", "five six seven")), chat, 100, {})
    assert (report.kind, report.n_rows, report.n_usable, report.flaws, report.refused) == ("comparisons", 2, 2, (), ())
    assert (report.longer_chosen.value, report.longer_chosen.n) == (0.5, 2)


def test_rows_that_training_refuses_by_kind_of_fault(read, chat):
    file = read(
        pair("a?", "yes", "no"),
        pair("b?", "same", "same"),
        pair("c?", "", "x"),
        {"chosen": 3, "rejected": "x"},
        pair([*turns("hi", "hello")], "yes", "no"),
    )
    report = audit(file, chat, 100, {})
    assert lines(report) == {"malformed": [4], "ends-in-assistant": [5], "identical": [2], "empty-answer": [3]}
    assert report.n_usable == 1
    assert set(report.refused) == {"malformed", "ends-in-assistant", "identical", "empty-answer"}
    allowed = audit(file, chat, 100, {}, allow=["identical", "malformed"])
    assert set(allowed.refused) == {"ends-in-assistant", "empty-answer"}


def test_duplicates_and_contradictions(read, chat):
    """Line 2 is line 1 again, line 3 line 1 turned round; the same answers to another prompt are neither."""
    file = read(pair("a?", "yes", "no"), pair("a?", "yes", "no"), pair("a?", "no", "yes"), pair("b?", "yes", "no"))
    report = audit(file, chat, 100, {})
    assert lines(report) == {"duplicate": [2], "contradiction": [3]}
    assert report.refused == ()


def test_a_row_over_the_window_is_an_error_as_training_refuses_it(read, chat):
    """Without the window it is a row like any other."""
    file = read({"messages": turns("hi", "yes")}, {"messages": turns("word " * 60, "yes")})
    report = audit(file, chat, 80, {})
    assert lines(report) == {"over-window": [2]}
    assert report.refused == ("over-window",)
    assert audit(file, chat, 1000, {}).flaws == ()


def test_a_row_that_the_template_refuses_is_named_and_the_others_are_checked(read, chat, monkeypatch):
    plain = chat.prompt

    def strict(messages):
        if messages[0].role == "system":
            raise DataError("the chat template refuses this conversation: System role not supported")
        return plain(messages)

    monkeypatch.setattr(chat, "prompt", strict)
    system = {"role": "system", "content": "Be brief."}
    file = read({"messages": [system, *turns("hi", "yes")]}, {"messages": turns("word " * 60, "yes")})
    assert lines(audit(file, chat, 80, {})) == {"template-refuses": [1], "over-window": [2]}


def test_a_spelled_control_token_is_told(read, chat):
    report = audit(
        read({"messages": turns("hi <|im_end|> there", "a b")}, {"messages": turns("hi", "a")}), chat, 100, {}
    )
    assert lines(report) == {"control-token": [1]}


def test_length_bias_needs_an_interval_without_one_half(read, chat):
    """40 pairs, 30 of them longer: Wilson 95 % is [0.60, 0.86]; of 4 pairs 3 are [0.30, 0.95]."""
    rows = [pair(f"{i}?", "a long answer" if i % 4 else "an", "short") for i in range(40)]
    (found,) = audit(read(*rows), chat, 100, {}).flaws
    assert (found.code, found.flaws[0].line) == ("length-bias", 0)
    assert found.flaws[0].message == "the chosen answer is the longer one in 75.0% [59.8%, 85.8%] of 40 pairs"
    turned = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows]
    (found,) = audit(read(*turned), chat, 100, {}).flaws
    assert found.flaws[0].message == "the chosen answer is the shorter one in 75.0% [59.8%, 85.8%] of 40 pairs"
    assert audit(read(*rows[:4]), chat, 100, {}).flaws == ()


def test_a_rare_label_is_told(read, chat):
    """1 of 12 ratings is undesirable: below a tenth."""
    rows = [{"prompt": f"{i}?", "completion": "yes", "label": i > 0} for i in range(12)]
    report = audit(read(*rows), chat, 100, {})
    assert {f.code: f.flaws[0].message for f in report.flaws} == {"label-balance": "'undesirable': 1 of 12 rows (8.3%)"}
    assert report.labels == {"desirable": 11, "undesirable": 1}


def test_an_answer_marked_both_ways_contradicts_itself(read, chat):
    rows = [{"prompt": "a?", "completion": "yes", "label": x, "id": "one"} for x in (True, True, False)]
    report = audit(read(*rows), chat, 100, {})
    assert lines(report) == {"duplicate": [2], "contradiction": [3]}
    assert report.flaws[0].flaws[0].message == "line 1 marks the same answer desirable"


def test_a_pair_turned_round_contradicts_whatever_else_is_said_of_it(read, chat):
    labels = {"chosen_safe": True, "rejected_safe": False}
    report = audit(read(pair("a?", "yes", "no", **labels), pair("a?", "no", "yes", **labels)), chat, 100, {})
    assert lines(report) == {"contradiction": [2]}


def test_an_empty_completion_and_personal_data(read, chat):
    rows = [
        {"prompt": "a?", "completion": " ", "label": True},
        {"prompt": "mail me: bob@corp.org", "completion": "ok", "label": True},
        {"prompt": "c?", "completion": "no", "label": False},
    ]
    report = audit(read(*rows), chat, 100, {})
    assert lines(report) == {"empty-answer": [1], "personal-data": [2]}


def test_contamination_names_both_rows(read, chat):
    train = read({"messages": turns("How long does a mayfly live?", "A day or so.")}, {"messages": turns("hi", "yes")})
    held = read({"messages": turns("how long does a mayfly live", "A day.")}, name="held.jsonl")
    report = audit(train, chat, 100, {"held.jsonl": held})
    assert report.refused == ("contamination",)
    assert report.flaws[0].flaws[0].message == "held.jsonl:1: prompts 100% the same"
    assert report.n_compared == {"held.jsonl": 1}


def demonstration(id, *texts):
    return {"id": id, "kind": "ordinary", "clause": "", "family": "f", "split": "train", "messages": turns(*texts)}


def test_prompts_without_answers_can_be_checked(read, chat):
    report = audit(read(demonstration("v1", "Hello there?"), demonstration("v1", "Bye?")), chat, 100, {})
    assert (report.kind, report.n_usable) == ("prompts", 1)
    assert lines(report) == {"malformed": [2]}  # an id of its own is asked of these


def test_a_demonstration_without_an_answer_is_a_flaw_where_others_have_one(read, chat):
    report = audit(read(demonstration("d1", "Hi?", "Hello."), demonstration("d2", "Bye?")), chat, 100, {})
    assert (report.kind, report.n_usable) == ("demonstrations", 1)
    assert lines(report) == {"empty-answer": [2]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "how long does a mayfly live"},
        {"prompt": turns("how long does a mayfly live")},
        {"id": "q", "family": "f", "question": "how long does a mayfly live", "choices": ["a", "b"], "answer": 0},
        {"prompt": "how long does a mayfly live", "completion": "A day."},
    ],
)
def test_evaluation_files_of_other_forms_are_compared_too(read, chat, row):
    train = read({"messages": turns("How long does a mayfly live?", "A day or so.")})
    report = audit(train, chat, 100, {"held.jsonl": read(row, name="held.jsonl")})
    assert report.refused == ("contamination",)
    assert report.n_compared == {"held.jsonl": 1}
    assert report.meaning_compared is False


def test_an_evaluation_file_that_cannot_be_read_is_refused_and_does_not_count_as_clean(read, chat):
    train = read({"messages": turns("a", "b")})
    held = read({"messages": turns("x")}, {"messages": turns("a", "b")}, name="held.jsonl")
    with pytest.raises(DataError, match=r"held.jsonl:1: no answer"):
        audit(train, chat, 100, {"held.jsonl": held})


def test_an_unknown_code_is_refused_with_the_nearest(read, chat):
    with pytest.raises(SettingsError, match=r"'duplicates'; did you mean 'duplicate'\?"):
        audit(read({"messages": turns("a", "b")}), chat, 100, {}, allow=["duplicates"])


def test_every_code_that_a_reader_gives_is_known(read):
    """A fault without a place in `CODES` would vanish from the report."""
    for rows in (
        [{"messages": turns("a")}],
        [{"messages": [{"role": "assistant", "content": "b"}]}],
        [{"prompt": "a", "completion": "", "label": True}],
        [{"prompt": turns("a", "b"), "completion": "c", "label": True}],
        [{"prompt": "a", "chosen": "", "rejected": ""}],
        [{"kind": "x", "messages": turns("a")}],
        [{"other": 1}],
    ):
        file = read(*rows)
        assert file.examples == ()
        assert {u.code for u in file.unusable} <= set(CODES)
    assert DataError("x").code in CODES
