import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import read_rows, write_rows
from accord.errors import DataError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@settings(deadline=None)  # the disk or a loaded machine may be slow
@given(rows=st.lists(st.dictionaries(st.text(), json_values, max_size=4), min_size=1, max_size=4))
def test_round_trip(tmp_path_factory, name, rows):
    path = tmp_path_factory.mktemp("rows") / name
    assert write_rows(path, rows) == len(rows)
    assert [row.data for row in read_rows(path)] == rows
    assert [row.line for row in read_rows(path)] == list(range(1, len(rows) + 1))
    assert [item.name for item in path.parent.iterdir()] == [name]


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y"}\r\n\r\n{"a": 2}'.encode())
    assert [(row.line, row.data) for row in read_rows(path)] == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


def test_half_a_surrogate_pair_survives(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"answer": "\ud83d"}])
    assert read_rows(path)[0].data == {"answer": "\ud83d"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file has no rows"),
        ("\n \n", "the file has no rows"),
        ('{"a": 1}\n{"a": \n', "rows.jsonl:2: not valid JSON at column"),
        ("[1]", "rows.jsonl:1: the line is a JSON list"),
        ('{"a": NaN}', "NaN is no JSON value"),
        ('{"a": 1, "a": 2}', "key given twice: a"),
        ("[" * 100_000, "not readable JSON"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, expected):
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_rows(path)
    assert expected in str(raised.value)


def test_every_malformed_line_is_listed_and_a_flood_is_cut(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n" + "x\n" * 25, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_rows(path)
    message = str(raised.value)
    assert f"{path}:2:" in message
    assert "… and 5 more" in message


def test_missing_damaged_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path)
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not.jsonl.gz").write_bytes(b"plain")
    for name in ("cut.jsonl.gz", "not.jsonl.gz"):
        with pytest.raises(DataError, match="gzip"):
            read_rows(tmp_path / name)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_rows(tmp_path / "bytes.jsonl")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"a": 1}])
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the row cannot be written"):
        write_rows(path, [{"a": 2}, {"a": float("nan")}])
    assert [row.data for row in read_rows(path)] == [{"a": 1}]
    assert [item.name for item in tmp_path.iterdir()] == ["rows.jsonl"]
