"""Inspect both ways: an Accord model under its tasks, its logs as attempts, and attempts as its logs."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.scorer import accuracy, mean, scorer
from inspect_ai.solver import solver
from inspect_ai.tool import ToolCall, ToolCallError, ToolFunction, ToolInfo
from tiny_llama import tiny

from accord.errors import DataError, GateError, NotMeasuredError, SettingsError
from accord.evals import inspect_provider  # noqa: F401
from accord.evals.inspect_logs import grade_of, read_inspect_log, write_inspect_log
from accord.evals.inspect_messages import answer_of, asked_of
from accord.evals.inspect_model import AccordModel
from accord.evals.inspect_suite import add_inspect
from accord.evals.inspect_tasks import check_errors, run_inspect
from accord.evals.results import Evaluation
from accord.models.load import load_model
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.policy import load_policy
from accord.scorers.refusal import RefusalScorer
from accord.starter import policy_path
from accord.types import Attempt, Message, Outcome, Prompt, Score

# Inspect leaves streams of its own open when a run ends, and passes tenacity an option by its old name.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
]

READER = RefusalScorer()
POLICY = load_policy(policy_path())
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message


@task
def greetings():
    samples = [Sample(f"Say hello to {name}.", target="e", id=name) for name in ("Ana", "Ben", "Cleo")]
    return Task(samples, solver=[system_message("Be brief."), generate()], scorer=includes())


@task
def too_long():
    return Task([Sample("word " * 3000, target="e"), Sample("Hi.", target="e")], solver=generate(), scorer=includes())


@task
def all_too_long():
    return Task([Sample("word " * 3000, target="e")], solver=generate(), scorer=includes())
"""


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "hello.py"
    path.write_text(TASK)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    loaded, folder = tiny(), tmp_path_factory.mktemp("tiny")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return AccordModel(str(folder))


def generated(model, messages, tools=(), choice="auto", **config):
    return asyncio.run(model.generate(list(messages), list(tools), choice, GenerateConfig(**config)))


# The provider


def test_an_answer_has_its_tokens_counted_and_says_why_it_stopped(model):
    output = generated(model, [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Hi")], max_tokens=7)
    chat = model.completer.white_box.chat
    n_input = len(chat.prompt((Message("system", "Be brief."), Message("user", "Hi"))))
    assert (output.usage.input_tokens, output.usage.output_tokens, output.usage.total_tokens) == (
        n_input,
        7,
        n_input + 7,
    )
    assert output.stop_reason == "max_tokens"
    # The window holds 512 tokens: what it cuts is said to be cut by it.
    cut = generated(model, [ChatMessageUser(content="Hi")], max_tokens=600)
    assert cut.stop_reason in ("model_length", "stop")
    assert cut.usage.total_tokens <= 512


def test_a_stop_sequence_ends_the_answer(model):
    whole = generated(model, [ChatMessageUser(content="Hi")], max_tokens=12).completion
    stop = whole[5:7]
    cut = generated(model, [ChatMessageUser(content="Hi")], max_tokens=12, stop_seqs=[stop])
    assert cut.completion == whole[: whole.index(stop)]
    assert cut.stop_reason == "stop"


def test_the_epochs_of_a_sample_are_drawn_apart_and_again_alike(tiny_folder):
    def three():
        fresh = AccordModel(str(tiny_folder))
        return [
            generated(fresh, [ChatMessageUser(content="Hi")], max_tokens=8, temperature=1.0).completion
            for _ in range(3)
        ]

    drawn = three()
    assert len(set(drawn)) == 3
    assert three() == drawn


def test_many_samples_are_sampled_in_one_batch(model, monkeypatch):
    from accord.models.local import LocalCompleter

    sizes, whole = [], LocalCompleter._complete_all

    def counting(self, requests):
        sizes.append(len(requests))
        return whole(self, requests)

    monkeypatch.setattr(LocalCompleter, "_complete_all", counting)

    async def main():
        asked = [[ChatMessageUser(content=f"Say {i}")] for i in range(12)]
        fresh = AccordModel.__new__(AccordModel)
        fresh.__dict__.update(vars(model))
        return await asyncio.gather(*(fresh.generate(a, [], "auto", GenerateConfig(max_tokens=4)) for a in asked))

    assert len(asyncio.run(main())) == 12
    assert sizes == [12]


@pytest.mark.parametrize(
    ("config", "named"),
    [({"top_p": 0.9}, "top_p=0.9"), ({"num_choices": 3}, "num_choices=3"), ({"logprobs": True}, "logprobs=True")],
)
def test_what_cannot_be_honoured_is_refused_not_ignored(model, config, named):
    with pytest.raises(SettingsError, match=named):
        generated(model, [ChatMessageUser(content="Hi")], **config)
    generated(model, [ChatMessageUser(content="Hi")], max_tokens=1, top_p=1.0, num_choices=1)


def test_an_answer_that_fails_is_an_error_and_no_empty_answer(model):
    with pytest.raises(DataError, match="window of 512"):
        generated(model, [ChatMessageUser(content="word " * 900)])
    picture = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")])
    with pytest.raises(DataError, match="image"):
        generated(model, [picture])


def test_tokens_are_counted_without_the_network(model):
    counted = asyncio.run(model.count_tokens("harbour water"))
    assert counted == len(model.completer.white_box.chat.opening("harbour water"))


def test_an_unknown_option_is_refused(tiny_folder):
    with pytest.raises(SettingsError, match="did you mean 'precision'"):
        get_model(f"accord/{tiny_folder}", precison="fp32", memoize=False)


# Messages and tools

ADD = ToolInfo(name="add", description="Adds two numbers.")


def test_tools_are_described_called_and_answered_in_text():
    history = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content="2 + 2?"),
        ChatMessageAssistant(content="", tool_calls=[ToolCall("c1", "add", {"x": 2, "y": 2})]),
        ChatMessageTool(content="4", tool_call_id="c1", function="add"),
        ChatMessageTool(content="", tool_call_id="c2", error=ToolCallError("timeout", "too slow")),
    ]
    asked = asked_of(history, [ADD], ToolFunction("add"))
    system, user, call, result = asked.messages
    assert system.content.startswith("Be brief.\n\nYou may call functions.")
    assert '"name": "add"' in system.content
    assert "must call the function 'add'" in system.content
    assert (user.role, user.content) == ("user", "2 + 2?")
    assert json.loads(call.content.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")) == {
        "name": "add", "arguments": {"x": 2, "y": 2},
    }  # fmt: skip
    assert result.role == "user"
    assert result.content == (
        "<tool_response>\n4\n</tool_response>\n\n<tool_response>\nerror: too slow\n</tool_response>"
    )
    assert asked_of(history[:2], [ADD], "none").messages == asked_of(history[:2], [], "auto").messages


def test_an_assistants_last_turn_is_the_beginning_of_the_answer():
    asked = asked_of([ChatMessageUser(content="Hi"), ChatMessageAssistant(content="Good ")], [], "auto")
    assert (asked.messages, asked.prefill) == ((Message("user", "Hi"),), "Good ")


def test_calls_are_read_and_what_is_no_call_says_why():
    said = 'Sure. <tool_call>{"name": "add", "arguments": {"x": 1}}</tool_call><tool_call>{"name": "ad"</tool_call>'
    message = answer_of(said + '<tool_call>{"name": "sub", "arguments": {}}', [ADD], 3)
    assert message.content == "Sure."
    good, broken, unknown = message.tool_calls
    assert (good.id, good.function, good.arguments, good.parse_error) == ("call_3", "add", {"x": 1}, None)
    assert "no JSON" in broken.parse_error
    assert "there is no tool 'sub'; there is add" in unknown.parse_error
    assert answer_of(said, [], 0).tool_calls is None


# Inspect's logs as attempts


@solver
def fails_on(ids):
    async def solve(state, generate):
        if state.sample_id in ids:
            raise RuntimeError("the endpoint is down")
        state.output = ModelOutput.from_content("scripted", "Blue is a colour.")
        state.messages.append(state.output.message)
        return state

    return solve


def graded_by(values):
    @scorer(metrics=[accuracy(), mean()], name="given")
    def given():
        async def score(state, target):
            return InspectScore(value=values[state.sample_id])

        return score

    return given()


def logged(tmp_path, values, failing=()):
    samples = [Sample("Name a colour.", target="x", id=id) for id in values]
    task = Task(samples, solver=fails_on(set(failing)), scorer=graded_by(values), name="colours")
    log = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none", fail_on_error=False)[0]
    return read_inspect_log(log.location, READER)


def test_eval_01_errors_vanish_and_range_run_1(tmp_path):
    """5 correct, 1 incorrect, 4 errored: 5/6 of the scored, 5/10 of all, and no plain success."""
    values = {i: "C" if i <= 5 else "I" for i in range(1, 11)}
    result = logged(tmp_path, values, failing=range(7, 11))
    scored, all_of_them = result.mean_of_scored("given"), result.mean_of_all("given")
    assert scored.value == pytest.approx(5 / 6)
    assert (scored.n, dict(scored.unscored)) == (6, {"error": 4})
    assert all_of_them.value == pytest.approx(0.5)
    assert (all_of_them.n, all_of_them.n_unscored) == (10, 0)
    assert result.status == "incomplete: 4 of 10 samples have no answer"
    assert [a.score.outcome for a in result.attempts].count(Outcome.ERROR) == 4
    assert "the endpoint is down" in next(a for a in result.attempts if a.prompt.id == "8").score.reason
    with pytest.raises(GateError, match=r"4 of 10 samples \(40%\)"):
        check_errors(result, 0.3)
    check_errors(result, 0.4)


def test_eval_01_errors_vanish_and_range_run_2(tmp_path):
    """[1, 0, 10, 1] on a scale from 0 to 1: row 3 is flagged; 2/3 of three rows, never 12/4."""
    result = logged(tmp_path, {1: 1, 2: 0, 3: 10, 4: 1})
    scored = result.mean_of_scored("given")
    assert scored.value == pytest.approx(2 / 3)
    assert (scored.n, dict(scored.unscored)) == (3, {"10 is off the scale from 0 to 1": 1})
    flagged = next(a for a in result.attempts if a.prompt.id == "3")
    assert flagged.score.value is None
    assert "off the scale" in flagged.score.reason


def test_eval_01_errors_vanish_and_range_run_3(tmp_path):
    """C, I, C, P: (1 + 0 + 1 + 0.5) / 4 = 0.625, and nothing crashes."""
    result = logged(tmp_path, {1: "C", 2: "I", 3: "C", 4: "P"})
    assert result.mean_of_scored("given").value == pytest.approx(0.625)
    assert result.mean_of_all("given").value == pytest.approx(0.625)
    assert result.status == "complete"
    assert [a.score.value for a in result.attempts] == [1.0, 0.0, 1.0, 0.5]
    assert all(a.score.outcome.assessed for a in result.attempts)


def test_the_calls_of_tools_in_a_log_are_shown_to_whoever_reads_its_answers(tmp_path):
    """The model's own call; not the one of a turn that the task wrote as an example."""
    seen = []

    class Reader:
        name = config_hash = "seen"

        def score_all(self, transcripts):
            seen.extend(transcripts)
            return READER.score_all(transcripts)

    example = ChatMessageAssistant(content="", tool_calls=[ToolCall("c0", "look", {})], source="input")
    made = ChatMessageAssistant(content="", tool_calls=[ToolCall("c1", "add", {"x": 2})], source="generate")

    @solver
    def calls():
        async def solve(state, generate):
            state.output = ModelOutput.from_content("scripted", "The sum is known.")
            state.messages += [made, ChatMessageTool(content="4", tool_call_id="c1"), state.output.message]
            return state

        return solve

    turns = [ChatMessageUser(content="Add."), example, ChatMessageUser(content="Now you.")]
    sample = Sample(id="1", input=turns, metadata={"kind": "harmful"})
    task = Task(dataset=[sample], solver=calls(), scorer=graded_by({"1": "C"}))
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    read_inspect_log(log.location, Reader())
    assert [t.actions for t in seen] == [(json.dumps({"name": "add", "arguments": {"x": 2}}),)]
    # What `evidence` asks: whether the request was harmful, which the task alone knows.
    assert [t.kind for t in seen] == ["harmful"]


def test_samples_that_were_never_run_are_missing_and_not_forgotten(tmp_path):
    samples = [Sample("Name a colour.", target="x", id=i) for i in range(6)]
    task = Task(samples, solver=fails_on({2}), scorer=graded_by(dict.fromkeys(range(6), "C")))
    log = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none", max_samples=1)[0]
    result = read_inspect_log(log.location, READER)
    assert log.status == "error"
    assert result.n_planned == 6
    assert result.missing >= 1
    assert result.mean_of_scored("given").n_unscored == result.n_errors == 6 - result.mean_of_scored("given").n
    assert result.mean_of_all("given").n == 6
    assert "Inspect's status is error" in result.status


@pytest.mark.parametrize(
    ("value", "grade"),
    [
        ("C", 1.0),
        ("I", 0.0),
        ("P", 0.5),
        ("N", 0.0),
        ("Yes", 1.0),
        ("false", 0.0),
        ("0.25", 0.25),
        (True, 1.0),
        (1, 1.0),
    ],
)
def test_labels_and_numbers_are_grades(value, grade):
    assert grade_of(value) == (grade, "")


@pytest.mark.parametrize("value", ["maybe", "", float("nan"), float("inf"), 1.0001, -1, [1, 0], None, "10"])
def test_what_is_no_grade_is_none_with_a_reason(value):
    grade, reason = grade_of(value)
    assert grade is None
    assert reason


def test_another_scale_is_mapped_to_0_and_1():
    assert grade_of(10, (1, 10)) == (1.0, "")
    assert grade_of(5.5, (1, 10)) == (0.5, "")
    assert grade_of(0, (1, 10))[0] is None


def test_a_scorer_of_several_values_is_several(tmp_path):
    result = logged(tmp_path, {1: {"tone": 1, "fact": 0}, 2: {"tone": 1, "fact": 1}})
    assert result.scorers == ("given/tone", "given/fact")
    assert result.mean_of_scored("given/fact").value == 0.5


# Attempts as Inspect's logs


def attempts_of_every_kind():
    hazard = POLICY.hazards[0].id
    harmful = Prompt("h", (Message("system", "s"), Message("user", "A request.")), "harmful", hazard, "f1", "verify")
    plain = Prompt("o", (Message("user", "Name a colour."),), "ordinary", "", "f2", "verify")
    common = {"condition": "base", "n_tokens": 3, "truncated": False, "seed": 1}
    scores = [
        (harmful, "No.", Score(Outcome.REFUSED, "rules", "declines", "No.", 0.9)),
        (harmful, "Sure.", Score(Outcome.COMPLIED, "rules")),
        (plain, "Blue.", Score(Outcome.COMPLIED, "rules")),
        (plain, "", Score(Outcome.EMPTY, "rules", "no letter")),
        (plain, "", Score(Outcome.ERROR, "", "timeout")),
        (plain, "Hm", Score(Outcome.UNSCORED, "judge", "no verdict")),
    ]
    plainly = [Attempt(id=f"a{i}", prompt=p, answer=a, score=s, **common) for i, (p, a, s) in enumerate(scores)]
    sent = (Message("user", "Please. A request."),)
    attacked = Attempt(
        id="x", prompt=harmful, answer=" here", score=Score(Outcome.COMPLIED, "rules"), attack="prefill", sent=sent,
        prefill="Sure,", queries=4, **common,
    )  # fmt: skip
    return [*plainly, attacked]


@pytest.mark.parametrize("suffix", [".eval", ".json"])
def test_what_is_written_is_read_back_by_inspect_and_by_accord(tmp_path, suffix):
    attempts = attempts_of_every_kind()
    path = write_inspect_log(tmp_path / f"log{suffix}", attempts, "starter", "accord/base", POLICY)
    log = read_eval_log(str(path))
    by_id = {s.id: s for s in log.samples}
    assert by_id["a0"].scores["acceptable"].value == "C"
    assert by_id["a1"].scores["acceptable"].value == "I"
    assert by_id["a3"].scores["outcome"].value == "empty"
    assert by_id["a4"].error.message == "timeout"
    assert by_id["x"].output.completion == "Sure, here"
    assert by_id["x"].input[0].text == "Please. A request."
    # 2 of 4 that were assessed are acceptable: the refusal and the colour; not the two that complied.
    (row,) = log.results.scores
    assert row.metrics["share"].value == 0.5
    assert (row.scored_samples, row.unscored_samples, log.results.completed_samples) == (4, 3, 6)
    result = read_inspect_log(path, READER)
    assert list(result.attempts) == attempts
    acceptable = result.mean_of_scored("acceptable")
    assert (acceptable.value, acceptable.n) == (0.5, 4)
    assert dict(acceptable.unscored) == {"empty": 1, "error": 1, "unscored": 1}


def test_nothing_assessed_is_no_number_in_a_log(tmp_path):
    failed = [a for a in attempts_of_every_kind() if a.score.outcome is Outcome.ERROR]
    log = read_eval_log(str(write_inspect_log(tmp_path / "log.json", failed, "t", "m", POLICY)))
    assert log.results.scores[0].metrics == {}
    assert read_eval_log(str(write_inspect_log(tmp_path / "none.eval", [], "t", "m", POLICY))).samples in (None, [])


def test_a_log_of_another_suffix_or_with_one_id_twice_is_refused(tmp_path):
    attempts = attempts_of_every_kind()
    with pytest.raises(DataError, match=r"ends in \.eval or \.json"):
        write_inspect_log(tmp_path / "log.txt", attempts, "t", "m", POLICY)
    with pytest.raises(DataError, match="a0"):
        write_inspect_log(tmp_path / "log.json", [attempts[0], attempts[0]], "t", "m", POLICY)
    (tmp_path / "broken.eval").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as an Inspect log"):
        read_inspect_log(tmp_path / "broken.eval", READER)


# Inspect's tasks on an Accord model


def test_a_task_runs_on_a_model_folder_and_comes_back_as_attempts(task_file, tiny_folder, tmp_path):
    result = run_inspect(f"{task_file}@greetings", str(tiny_folder), tmp_path / "logs", READER, max_tokens=5)
    assert result.status == "complete"
    assert [a.prompt.id for a in result.attempts] == ["Ana", "Ben", "Cleo"]
    assert all(a.sent[0] == Message("system", "Be brief.") for a in result.attempts)
    assert all(a.n_tokens == 5 and a.truncated for a in result.attempts)
    estimate = result.mean_of_scored("includes")
    assert estimate.n == 3
    assert estimate.low < estimate.value < estimate.high or estimate.value in (0, 1)
    assert Path(result.log.removeprefix("file://")).exists()


def test_a_task_is_asked_under_the_evaluation_s_own_conditions(task_file, tiny_folder, tmp_path, monkeypatch):
    asked, loaded = [], []
    complete = LocalCompleter.complete

    async def kept(self, request):
        asked.append(request)
        return await complete(self, request)

    def load(name, precision):
        loaded.append(precision)
        return load_model(name, precision)

    monkeypatch.setattr(LocalCompleter, "complete", kept)
    monkeypatch.setattr("accord.evals.inspect_model.load_model", load)
    bare = Evaluation(str(tiny_folder), "f", 7, "Speak French.", (), {})
    sampling = Sampling(temperature=0.75, seed=7)
    found = add_inspect(bare, [f"inspect:{task_file}@greetings"], tmp_path, READER, 1, sampling, "fp32")
    (request,) = asked
    assert request.messages[0] == Message("system", "Speak French.\n\nBe brief.")
    assert (request.sampling.temperature, request.sampling.seed, loaded) == (0.75, 7, ["fp32"])
    assert (found.fingerprint, len(found.results[0].items)) == ("f", 1)
    (attempt,) = read_inspect_log(next(tmp_path.rglob("*.eval")), READER).attempts
    assert attempt.sent[0] == request.messages[0]


def test_a_sample_that_does_not_fit_is_an_error_beside_the_others(task_file, tiny_folder, tmp_path):
    result = run_inspect(f"{task_file}@too_long", str(tiny_folder), tmp_path / "logs", READER, max_tokens=5)
    assert result.n_errors == 1
    assert result.mean_of_scored("includes").n == 1
    assert any("window of 512" in a.score.reason for a in result.attempts)
    with pytest.raises(NotMeasuredError, match=r"1 of 1 samples have no answer; .*window of 512"):
        run_inspect(f"{task_file}@all_too_long", str(tiny_folder), tmp_path / "logs", READER, max_tokens=5)


def test_a_task_that_is_not_there_says_so(task_file, tiny_folder, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        run_inspect("nowhere.py@x", str(tiny_folder), tmp_path / "logs", READER)
    with pytest.raises(DataError, match="name one task"):
        run_inspect(str(task_file), str(tiny_folder), tmp_path / "logs", READER)
    with pytest.raises(DataError, match="cannot be run"):
        run_inspect(f"{task_file}@nothing", str(tiny_folder), tmp_path / "logs", READER)


def test_inspects_own_command_runs_on_the_starter_model(task_file, tmp_path):
    """`inspect eval --model accord/starter` in a process of its own, which finds the provider as the package declares it."""
    load_model("starter")  # converted once, so that the command's time is its own
    _declare_entry_points(tmp_path)
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    logs = tmp_path / "logs"
    asked = [
        sys.executable,
        "-m",
        "inspect_ai",
        "eval",
        f"{task_file}@greetings",
        "--model",
        "accord/starter",
        "--log-dir",
        str(logs),
    ]
    done = subprocess.run(
        [*asked, "--max-tokens", "12", "--display", "plain"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = logs.glob("*.eval")
    result = read_inspect_log(path, READER)
    assert result.status == "complete"
    assert all(a.answer and 0 < a.n_tokens <= 12 for a in result.attempts)


def _declare_entry_points(folder):
    """As an installer would from pyproject.toml: an older installation of the package may lack what it declares now."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    info = folder / "accord_align.egg-info"
    info.mkdir()
    info.joinpath("PKG-INFO").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {target}" for name, target in project["entry-points"]["inspect_ai"].items()]
    info.joinpath("entry_points.txt").write_text("\n".join(["[inspect_ai]", *lines]) + "\n")
