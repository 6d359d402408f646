import json

import pytest

from accord.data.ratings import read_ratings
from accord.errors import DataError
from accord.types import Message


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_text_and_messages(tmp_path):
    turn = [{"role": "user", "content": "Where is it?"}]
    path = write(
        tmp_path / "marked.jsonl",
        {"prompt": "Is tap water in Oslo safe?", "completion": "Yes.", "label": True},
        {"prompt": turn, "completion": [{"role": "assistant", "content": "Nowhere."}], "label": False, "id": "b"},
    )
    good, bad = read_ratings(path)
    assert (good.id, good.answer, good.desirable) == ("marked.jsonl:1", "Yes.", True)
    assert good.messages == (Message("user", "Is tap water in Oslo safe?"),)
    assert (bad.id, bad.messages[0].content, bad.answer, bad.desirable) == ("b", "Where is it?", "Nowhere.", False)


def test_a_comparison_is_one_good_and_one_bad_answer(tmp_path):
    path = write(tmp_path / "pairs.jsonl", {"id": "p", "prompt": "a", "chosen": "b", "rejected": "c"})
    assert [(r.id, r.answer, r.desirable) for r in read_ratings(path)] == [
        ("p:chosen", "b", True),
        ("p:rejected", "c", False),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "completion": "b"}, "missing 'label'"),
        ({"prompt": "a", "completion": "b", "label": 1}, "expected true or false"),
        ({"prompt": "a", "completion": " ", "label": True}, "is empty"),
        ({"prompt": [], "completion": "b", "label": True}, "messages|user"),
        ({"prompt": "a", "completion": [{"role": "user", "content": "b"}], "label": True}, "assistant"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line(tmp_path, row, why):
    path = write(tmp_path / "x.jsonl", {"prompt": "a", "completion": "b", "label": True}, row)
    with pytest.raises(DataError, match=why) as raised:
        read_ratings(path)
    assert "line 2" in str(raised.value) or ":2" in str(raised.value)


def test_answers_that_are_all_marked_alike_teach_nothing(tmp_path):
    path = write(tmp_path / "x.jsonl", *[{"prompt": "a", "completion": f"b{i}", "label": True} for i in range(3)])
    with pytest.raises(DataError, match="all 3 answers are marked alike"):
        read_ratings(path)
