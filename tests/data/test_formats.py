import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import (
    Format,
    check_comparisons,
    detect,
    format_hh,
    numbered,
    parse_hh,
    parse_pair,
    read_comparisons,
    read_conversations,
    show,
    split_text,
    to_row,
    write_records,
    write_rows,
)
from accord.data.messages import messages_from_rows, messages_to_rows
from accord.errors import DataError
from accord.types import Comparison, Message


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


IMPLICIT = [
    {"chosen": "The gate is shut", "rejected": "The gate is shut and locked"},
    {"chosen": [user("hi"), assistant("hello")], "rejected": [user("hi"), assistant("hello")]},
    {"chosen": "Yes ", "rejected": "No"},
    {"chosen": "", "rejected": "x"},
]


def test_data_01_implicit_prompt_prefix():
    report = check_comparisons(numbered(IMPLICIT))
    assert str(report) == "rows=4, usable=1, identical=1, empty_completion=2, malformed=0"
    assert (report.lines("identical"), report.lines("empty-answer")) == ((2,), (1, 4))
    assert split_text("The gate is shut", "The gate is shut and locked") == ("The gate is shut", "", " and locked")
    assert split_text("The sky is blue", "The sky is red") == ("The sky is", " blue", " red")
    assert parse_pair(IMPLICIT[1]).messages == (Message("user", "hi"),)
    assert split_text("Yes ", "No") == ("", "Yes ", "No")
    assert split_text("", "x") == ("", "", "x")


def test_data_01_training_refuses_or_drops_with_the_same_counts(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_rows(path, IMPLICIT)
    with pytest.raises(DataError) as raised:
        read_comparisons(path)
    assert [f"{path}:{line}:" in str(raised.value) for line in (1, 2, 3, 4)] == [True, True, False, True]
    found = read_comparisons(path, drop=True)
    assert (len(found.comparisons), found.report.identical, found.report.empty_completion) == (1, 1, 2)
    (left,) = found.comparisons
    assert (left.messages, left.chosen, left.rejected) == ((Message("user", ""),), "Yes ", "No")
    assert left.id == "pairs.jsonl:3"


@given(st.text(max_size=12), st.text(max_size=6), st.text(max_size=6))
def test_a_split_loses_nothing(shared, one, other):
    prompt, first, second = split_text(shared + one, shared + other)
    assert (prompt + first, prompt + second) == (shared + one, shared + other)
    assert len(prompt) >= len(shared) - 1
    assert not (first and second) or first[0] != second[0] or first[0] == " "


TOOLS = [
    {"messages": [user("time?"), {"role": "assistant", "tool_calls": [{"name": "get_time", "arguments": {}}]}]},
    {
        "messages": [
            user("weather?"),
            {"role": "assistant", "tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]},
        ]
    },
]


def test_data_03_null_padded_keys(tmp_path):
    write_rows(tmp_path / "one.jsonl", TOOLS[:1])
    write_rows(tmp_path / "both.jsonl", TOOLS)
    alone, together = read_conversations(tmp_path / "one.jsonl"), read_conversations(tmp_path / "both.jsonl")
    assert show(alone[0]) == show(together[0])
    assert not any(word in show(together[0]) for word in ("city", "null", "None"))
    assert together[0][1].extra["tool_calls"][0]["arguments"] == {}
    assert together[1][1].extra["tool_calls"][0]["arguments"] == {"city": "Oslo"}
    assert [messages_to_rows(conversation) for conversation in together] == [row["messages"] for row in TOOLS]
    assert all("tool_calls" not in row for row in messages_to_rows(together[0])[:1])


def test_data_03_keys_padded_by_others_are_dropped():
    padded = [{**user("time?"), "tool_calls": None, "name": None}]
    assert messages_to_rows(messages_from_rows(padded)) == [user("time?")]


MULTI = [user("Capital of Norway?"), assistant("Oslo."), user("And its postcode for the palace?")]


def test_data_04_dpo_multi_turn_flattened(tmp_path):
    row = {"chosen": [*MULTI, assistant("0010")], "rejected": [*MULTI, assistant("no clue")]}
    write_rows(tmp_path / "pairs.jsonl", [row])
    (comparison,) = read_comparisons(tmp_path / "pairs.jsonl").comparisons
    assert messages_to_rows(comparison.messages) == MULTI
    assert (comparison.chosen, comparison.rejected) == ("0010", "no clue")


PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
CONVERSATION = [user("Hi"), assistant("Hello")]


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": [user("Hi")], "chosen": [assistant("Hello")], "rejected": [assistant("Go away")]},
        {"prompt": [user("Hi")], "chosen": "Hello", "rejected": "Go away"},
        {"prompt": "Hi", "chosen": CONVERSATION, "rejected": [user("Hi"), assistant("Go away")], "score": 3},
        {"prompt": None, "chosen": CONVERSATION, "rejected": [user("Hi"), assistant("Go away")]},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello", "rejected": "Go away"},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away"},
    ],
)
def test_all_formats_say_the_same(row):
    pair = parse_pair(row)
    assert (pair.messages, pair.chosen, pair.rejected) == ((Message("user", "Hi"),), "Hello", "Go away")
    swapped = parse_pair(row | {"chosen": row["rejected"], "rejected": row["chosen"]})
    assert (swapped.messages, swapped.chosen, swapped.rejected) == (pair.messages, "Go away", "Hello")


def test_detect():
    assert detect(TOOLS[0]) is Format.MESSAGES
    assert detect(PAIR) is Format.EXPLICIT
    assert detect(IMPLICIT[0]) is Format.IMPLICIT
    assert detect({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}) is Format.HH
    with pytest.raises(DataError, match="'choosen'; did you mean 'chosen'"):
        detect({"choosen": "a", "rejected": "b"})
    with pytest.raises(DataError, match="keys are none"):
        detect({})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": CONVERSATION}, "the row is a conversation"),
        (PAIR | {"chosen": 3}, "'chosen' is 3"),
        ({"chosen": "a", "rejected": CONVERSATION}, "'chosen' is 'a'"),
        ({"chosen": [*CONVERSATION, user("x"), assistant("y")], "rejected": CONVERSATION}, "turns of user, assistant"),
        ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, "the prompt ends with nothing"),
        ({"prompt": CONVERSATION, "chosen": "a", "rejected": "b"}, "the prompt ends with assistant"),
        ({"prompt": "Bye", "chosen": CONVERSATION, "rejected": [user("Hi"), assistant("x")]}, "'prompt' is not what"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "c"}, "expected '\\n\\nHuman: …'"),
        (PAIR | {"chosen": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "carries tool_calls"),
        (PAIR | {"split": "trian"}, "did you mean 'train'"),
        (PAIR | {"family": 3}, "'family' is 3"),
    ],
)
def test_malformed_rows_are_refused_even_where_others_are_dropped(tmp_path, row, expected):
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [PAIR, row])
    with pytest.raises(DataError) as raised:
        read_comparisons(path, drop=True)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert expected in str(raised.value)


def test_nothing_usable_and_repeated_ids(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [PAIR | {"rejected": "Hello"}])
    with pytest.raises(DataError, match="no usable comparison"):
        read_comparisons(path, drop=True)
    write_rows(path, [PAIR | {"id": 1}, PAIR | {"id": 1}])
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: id '1' is used before, on line 1"):
        read_comparisons(path)
    write_rows(path, [PAIR])
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: the row is in format prompt-chosen-rejected"):
        read_conversations(path)


def test_pairs_of_one_prompt_share_a_family(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [PAIR, PAIR | {"rejected": "No"}, PAIR | {"prompt": "Ho"}, PAIR | {"family": "own"}])
    families = [comparison.family for comparison in read_comparisons(path).comparisons]
    assert families[0] == families[1] != families[2]
    assert families[3] == "own"


said = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() == text and text)
comparisons = st.builds(
    Comparison,
    id=said,
    messages=said.map(lambda text: (Message("system", "Be kind"), Message("user", text))),
    chosen=said.map(lambda text: text + " yes"),
    rejected=said.map(lambda text: text + " no"),
    family=said,
    split=st.sampled_from(["train", "discover", "verify"]),
    source=said,
    clause=st.text(max_size=5),
)


@settings(deadline=None)  # the disk or a loaded machine may be slow
@given(comparisons)
def test_comparisons_round_trip(tmp_path_factory, comparison):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl.gz"
    write_records(path, [comparison])
    assert read_comparisons(path).comparisons == (comparison,)
    assert json.loads(json.dumps(to_row(comparison)))["chosen"] == [assistant(comparison.chosen)]


@given(st.lists(said.filter(lambda text: "Human:" not in text and "Assistant:" not in text), min_size=1, max_size=5))
def test_hh_round_trip(texts):
    turns = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    assert parse_hh(format_hh(turns)) == turns


def test_hh_turns():
    turns = parse_hh("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c")
    assert turns == (Message("user", "a"), Message("assistant", "b\n\nc"))
    assert parse_hh("\n\nHuman: a\n\nAssistant:")[-1] == Message("assistant", "")
    with pytest.raises(DataError, match="without loss"):
        format_hh((Message("system", "x"),))
    with pytest.raises(DataError, match="without loss"):
        format_hh((Message("user", "x\n\nAssistant: y"),))


@pytest.mark.parametrize(("name", "rows"), [("train", 1700), ("dev", 300)])
def test_hh_rlhf_as_published(name, rows):
    folder = os.environ.get("ACCORD_TEST_DATA")
    if not folder:
        pytest.skip("ACCORD_TEST_DATA names no folder with hh-rlhf/ (docs/data.md says where to get it)")
    found = read_comparisons(Path(folder) / "hh-rlhf" / f"harmless-base.{name}.jsonl.gz", drop=True)
    assert (found.report.rows, found.report.malformed) == (rows, 0)
    assert found.report.usable == len(found.comparisons) >= rows - 3
    assert all(comparison.messages[-1].role == "user" for comparison in found.comparisons)
    assert any(len(comparison.messages) > 3 for comparison in found.comparisons)
    assert not any("\n\nHuman:" in comparison.chosen + comparison.rejected for comparison in found.comparisons)
