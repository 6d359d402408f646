"""`accord judge compare` as a person meets it, on the tiny model."""

import json
import sys

import pytest

from accord.cli import main


@pytest.fixture
def accord(monkeypatch, capsys):
    # A random model puts hardly anything on the labels, and all of its verdicts would be withheld.
    monkeypatch.setattr("accord.scorers.pairwise.MIN_MASS", 0.0)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["accord", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def stored(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_comparisons_are_judged_in_both_orders_and_held_against_people(accord, tmp_path, tiny_folder):
    answers = ["the water", "is asked", "how that is", "what", "in the harbour", "of the system"]
    rows = [{"id": f"{i}", "prompt": f"what is {i}", "chosen": a, "rejected": b, "preference": 1.0 if i % 2 else 0.25}
            for i, (a, b) in enumerate((a, b) for a in answers for b in answers if a != b)]  # fmt: skip
    rows.append({"id": "same", "prompt": "what", "chosen": "water", "rejected": "water"})
    file, out = stored(tmp_path / "pairs.jsonl", rows), tmp_path / "verdicts.jsonl"
    asked = ("judge", "compare", f"rubric:{tiny_folder}", file, "--criterion", "It is short.", "--out", out)
    code, _, refused = accord(*asked)
    assert code == 2
    assert "drop such rows" in refused
    code, told, _ = accord(*asked, "--drop")
    assert code == 0
    assert "30 pairs in both orders, 60 questions" in told
    assert "left out: 1 identical" in told
    found = json.loads(accord(*asked, "--drop", "--json")[1])
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    won = [row["winner"] for row in kept]
    assert [found["wins"], found["ties"], found["losses"]] == [won.count(w) for w in ("chosen", "tie", "rejected")]
    assert found["win_rate"]["value"] == (won.count("chosen") + won.count("tie") / 2) / 30
    assert found["win_rate"]["low"] < found["win_rate"]["value"] < found["win_rate"]["high"]
    assert found["inconsistent"]["value"] == sum(not row["consistent"] for row in kept) / 30
    assert [row["preferred"] for row in kept[:2]] == ["rejected", "chosen"]
    decided = [row for row in kept if row["winner"] != "tie"]
    assert found["agreement"]["n"] == len(decided)
    assert sum(row["winner"] == row["preferred"] for row in decided) == round(
        (found["agreement"]["value"] or 0) * len(decided)
    )


def test_two_evaluations_are_compared_on_what_both_answered(accord, tmp_path, tiny_folder, monkeypatch):
    """A and B are one model: every pair is a tie, and nobody prefers anything; an item of B alone is no pair."""
    monkeypatch.setattr("accord.scorers.pairwise.window", lambda _: 4096)
    text = "prompt,type,label,focus\nwhat is water,a,safe,x\nhow is the harbour,b,safe,x\n"
    for name, more in (("a", ""), ("b", "what is the system,c,safe,x\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompts.csv").write_text(text + more)
        suite = f"xstest={tmp_path / name / 'prompts.csv'}"
        accord("eval", tiny_folder, "--suite", suite, "--out", tmp_path / name / "run")
    runs = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    asked = ("judge", "compare", f"rubric:{tiny_folder}", *runs, "--criterion", "It is short.")
    found = json.loads(accord(*asked, "--json")[1])
    assert (found["pairs"], found["left out"], found["names"]) == (2, {"asked in one run alone": 1}, ["A", "B"])
    assert (found["ties"], found["inconsistent"]["value"], found["agreement"]) == (2, 1.0, None)
    code, _, error = accord(*asked[:4])
    assert code == 2
    assert "two folders of `accord eval`" in error
    code, _, error = accord(*asked[:3], *(2 * [tmp_path / "a"]))
    assert code == 2
    assert "no results.json" in error


def test_no_verdict_at_all_is_no_measurement(accord, tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr("accord.scorers.pairwise.MIN_MASS", 1.1)
    file = stored(tmp_path / "pairs.jsonl", [{"prompt": "what", "chosen": "water", "rejected": "system"}])
    code, told, error = accord("judge", "compare", f"rubric:{tiny_folder}", file, "--criterion", "It is short.")
    assert code == 3
    assert "no verdict on any of the 1 pairs" in error
    assert "1 the judge was about to say neither label" in told
