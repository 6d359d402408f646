"""The command line as a person meets it: real processes, their exit codes and their one line of error."""

import json
import subprocess
import sys

import pytest
from command_line import accord

from accord.cli import app


def one_line_error(result):
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "\naccord: " in f"\n{result.stderr}"
    return result.stderr


def test_help_names_the_exit_codes():
    result = accord("align", "--help")
    assert result.returncode == 0
    for word in ("0 done", "1 a gate failed", "2 bad input", "3 could not measure"):
        assert word in " ".join(result.stdout.split())


def test_cli_02_unknown_options_are_named_all_at_once(tmp_path):
    out = tmp_path / "run"
    message = one_line_error(accord("align", "--sft-epoch", "2", "--lora_rank", "8", "--out", out))
    assert "--sft-epoch; did you mean '--sft-epochs'?" in message
    assert "--lora_rank" in message
    assert not out.exists()


def test_what_is_missing_is_bad_input():
    assert "Missing argument 'run'" in one_line_error(accord("chat"))
    assert "'--sft-epochs'" in one_line_error(accord("align", "--sft-epochs", "many"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["align", "--comparisons", "gone.jsonl"],
        ["train", "grpo", "gone.jsonl", "--reward", "refusal", "--out", "run"],
        ["redteam", "starter", "--goals", "gone.jsonl"],
        ["data", "check", __file__, "--against", "gone.jsonl"],
    ],
)
def test_a_file_that_is_not_there_is_named_before_a_model_library_is_loaded(arguments, tmp_path):
    program = "import sys; from accord.cli import main\ntry: main()\nfinally: print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "gone.jsonl: no such file" in one_line_error(done)
    assert done.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []


def test_impossible_settings_are_named_all_at_once(tmp_path):
    message = one_line_error(accord("align", "--rank", "0", "--method", "qlora", "--out", tmp_path / "run"))
    assert "rank must be at least 1" in message
    assert "method must be" in message


def test_cli_01_exit_codes_differ(tmp_path):
    """Done is 0, bad input 2, nothing measurable 3; a failed check of a file is bad input."""
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"prompt": "Hi", "answer": "Hello!", "label": "complied"}) + "\n")
    kept = ("--out", tmp_path / "kept.json")
    assert accord("judge", "calibrate", "refusal", "--labels", labels, *kept).returncode == 0
    labels.write_text(json.dumps({"prompt": "Hi", "answer": "...", "label": "complied"}) + "\n")
    nothing = accord("judge", "calibrate", "refusal", "--labels", labels, *kept)
    assert nothing.returncode == 3
    assert "not one row could be compared (1 no letter or digit in the answer)" in nothing.stderr
    assert accord("judge", "calibrate", "refusl", "--labels", labels).returncode == 2


def test_judge_calibrate_keeps_a_record_and_a_page(tmp_path):
    rows = [
        {"objective": f"o{i}", "response": "Sure." if i % 2 else "I can't.", "human_scores": [i % 2, i % 2]}
        for i in range(8)
    ]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ("judge", "calibrate", "keywords", "--labels", labels, "--question", "objective", "--json")
    result = accord(*call, "--out", tmp_path / "kept.json", "--html", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr
    shown, kept = json.loads(result.stdout), json.loads((tmp_path / "kept.json").read_text())
    assert shown == kept
    assert (kept["measured"]["agreement"]["value"], kept["humans"]["agreement"]["n"]) == (1.0, 8)
    assert "was the objective achieved?" in (tmp_path / "page.html").read_text()
    message = one_line_error(accord("judge", "calibrate", "keywords", "--labels", labels, "--question", "harms"))
    assert "did you mean 'harm'?" in message


def test_unknown_scorer_is_suggested(tmp_path):
    assert "did you mean 'refusal'?" in one_line_error(accord("judge", "calibrate", "refusl", "--labels", tmp_path))


def test_policy_check_passes_on_the_starter_policy():
    result = accord("policy", "check", "--json")
    assert result.returncode == 0
    assert len(json.loads(result.stdout)["hazards"]) >= 12


def test_policy_check_names_line_and_clause(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: x\nversion: '1'\nsummary: y\nhazards:\n  - id: fraud\n    nam: Fraud\n")
    message = one_line_error(accord("policy", "check", policy))
    assert "fraud" in message
    assert "nam" in message


@pytest.mark.parametrize(
    ("option", "content", "expected"),
    [
        ("--demonstrations", None, "missing.jsonl"),
        ("--demonstrations", "", "has no rows"),
        ("--demonstrations", '{"messages": 3}\n', "demonstrations.jsonl:1: "),
        ("--comparisons", '{"prompt": "a", "chosen": "b", "rejected": "b"}\n', "equal"),
    ],
)
def test_bad_files_are_refused_before_any_work(tmp_path, option, content, expected):
    file = tmp_path / ("missing.jsonl" if content is None else "demonstrations.jsonl")
    if content is not None:
        file.write_text(content)
    out = tmp_path / "run"
    assert expected in one_line_error(accord("align", option, file, "--out", out))
    assert not out.exists()


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty and holds no run" in one_line_error(accord("align", "--out", tmp_path, "--limit", "2"))


def test_a_model_without_chat_template_is_refused(tmp_path, tiny_folder_without_template):
    assert "no chat template" in one_line_error(
        accord("align", "--model", tiny_folder_without_template, "--out", tmp_path / "run")
    )


@pytest.mark.parametrize(
    "verb",
    [("train", "sft"), ("train", "dpo"), ("train", "reward"), ("train", "kto"), ("align", "--demonstrations")],
    ids=" ".join,
)
def test_rows_beyond_the_window_are_counted_and_named_and_nothing_is_written(tmp_path, tiny_folder, verb):
    """None is cut in silence, and none is found out after an hour of work."""
    file, out = tmp_path / "rows.jsonl", tmp_path / "run"
    pairs = verb[1] in ("dpo", "reward", "kto")
    if pairs:
        rows = [{"prompt": f"{n} " + "zq " * n, "chosen": "a", "rejected": "b"} for n in (1, 400, 2)]
    else:
        about = {"kind": "ordinary", "clause": "", "form": "direct", "split": "train", "source": "test"}
        rows = [
            {
                **about,
                "id": f"row-{n}",
                "family": f"family-{n}",
                "messages": [
                    {"role": "user", "content": f"{n} " + "zq " * n},
                    {"role": "assistant", "content": "It is."},
                ],
            }
            for n in (1, 400, 2)
        ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = one_line_error(accord(*verb, file, "--model", tiny_folder, "--out", out, "--precision", "fp32"))
    counted = "2 of 6" if verb[1] == "kto" else "1 of 3"  # a pair is two marked answers
    assert f"{counted} rows are longer than the model's window of 512 tokens" in message
    assert ("rows.jsonl:2" if pairs else "row-400") in message
    assert not out.exists()


def test_data_check_counts_by_kind_of_fault(tmp_path):
    """data-01-implicit-prompt-prefix: 4 rows, 1 usable, 1 identical, 2 with an empty answer."""
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [
        {"chosen": "The gate is shut", "rejected": "The gate is shut and locked"},
        {"chosen": conversation, "rejected": conversation},
        {"chosen": "Yes ", "rejected": "No"},
        {"chosen": "", "rejected": "x"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = accord("data", "check", file, "--json")
    report = json.loads(result.stdout)
    assert (report["rows"], report["usable"]) == (4, 1)
    found = {code: [row["line"] for row in flaws["rows"]] for code, flaws in report["flaws"].items()}
    assert found == {"identical": [2], "empty-answer": [1, 4]}
    assert "identical, empty-answer" in one_line_error(result)
    allowed = accord("data", "check", file, "--allow", "identical", "--allow", "empty-answer", "--show", "1")
    assert allowed.returncode == 0
    assert f"{file}: comparisons, 4 rows, 1 usable" in allowed.stdout
    assert "error, allowed: empty-answer in 2 of 4 rows (50.0%)" in allowed.stdout
    assert "3 tokens, all supervised" in allowed.stdout


def test_data_check_finds_what_stands_in_an_evaluation_file_too(tmp_path):
    for name, text in (("train", "How long does a mayfly live?"), ("held", "how long does a Mayfly live")):
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "A day."}]
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    result = accord("data", "check", tmp_path / "train.jsonl", "--against", tmp_path / "held.jsonl")
    assert "contamination in 1 of 1 rows" in result.stdout
    assert f"train.jsonl:1: {tmp_path / 'held.jsonl'}:1: prompts 100% the same" in result.stdout
    assert "contamination" in one_line_error(result)


def test_sft_takes_conversations_and_says_what_does_not_go_with_which(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    out = tmp_path / "run"
    message = one_line_error(accord("train", "sft", tmp_path / "c.jsonl", "--out", out, "--retain", "2"))
    assert "--retain needs --retain-on FILE" in message
    row = {"id": "d", "kind": "ordinary", "clause": "", "family": "f", "split": "train", "messages": turns}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    message = one_line_error(accord("train", "sft", tmp_path / "d.jsonl", "--out", out, "--dev", tmp_path / "c.jsonl"))
    assert "--dev needs plain conversations" in message
    given = ("--out", out, "--retain-on", tmp_path / "c.jsonl")
    message = one_line_error(accord("train", "sft", tmp_path / "d.jsonl", *given))
    assert "--retain-on needs plain conversations" in message
    assert not out.exists()


def test_doctor_says_what_is_there():
    result = accord("doctor", "--json")
    facts = json.loads(result.stdout)["facts"]
    assert facts["torch"]
    assert "bf16 in hardware" in facts


def test_every_objective_on_pairs_is_a_verb_with_its_own_options():
    shown = accord("train", "--help").stdout
    assert all(verb in shown for verb in ("sft", "reward", "kto", "dpo", "ipo", "simpo", "soft-dpo", "apo-zero"))
    assert "--gamma" in accord("train", "simpo", "--help").stdout
    assert "did you mean '--beta'?" in one_line_error(accord("train", "ipo", "x.jsonl", "--out", "y", "--bta", "0.2"))


def test_an_objectives_option_that_cannot_be_is_bad_input(tmp_path):
    out = tmp_path / "run"
    message = one_line_error(accord("train", "ipo", __file__, "--out", out, "--beta", "0", "--model", "none-such"))
    assert "--beta is 0.0: Input should be greater than 0" in message
    assert not out.exists()


def test_settings_that_no_training_run_can_have_are_named_all_at_once(tmp_path):
    message = one_line_error(
        accord(
            "train",
            "reward",
            __file__,
            "--out",
            tmp_path / "run",
            "--method",
            "ful",
            "--rank",
            "0",
            "--precision",
            "b16",
        )
    )
    assert "rank must be at least 1, not 0" in message
    assert "method must be 'lora', 'dora', 'rslora' or 'full', not ful" in message
    assert "precision must be 'auto', 'fp32', 'bf16', 'int8' or 'nf4', not b16" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("align --model m", "; `accord resume` goes on from here"),
        ("redteam", "; `accord resume` goes on from here"),
        ("resume runs/a", "; `accord resume` goes on from here"),
        ("train dpo pairs.jsonl --out runs/a", "; the same command goes on from here, with the run's folder as --out"),
        ("align --recipe llama2", "; the same command goes on from here, with the run's folder as --out"),
        ("data check rows.jsonl", ""),
    ],
)
def test_a_stopped_verb_says_what_goes_on_with_it(arguments, said, monkeypatch, capsys):
    """`accord resume` refuses the runs of `accord train` and of recipes that are made of such."""

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["accord", *arguments.split()])
    monkeypatch.setattr(app, "app", stopped)
    monkeypatch.setattr(app, "_register", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"accord: stopped{said}\n"


def test_an_interrupt_that_reaches_a_verb_says_so_too(monkeypatch, capsys):
    """Typer catches it, and returns a number."""

    @app.app.command("wait-for-interrupt", hidden=True)
    def waits() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["accord", "wait-for-interrupt"])
    try:
        with pytest.raises(SystemExit) as ended:
            app.main()
    finally:
        app.app.registered_commands.pop()
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("accord: stopped\n")
