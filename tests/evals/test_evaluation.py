"""A model through suites: the cache and what it depends on, errors, servers, seeds."""

import asyncio
import json
from dataclasses import replace
from functools import cached_property

import pytest
import torch

from accord.data.records import read_attempts
from accord.errors import NotMeasuredError
from accord.evals.asking import JOURNAL, Journal
from accord.evals.evaluation import choose, evaluate, refuse_unmeasured
from accord.evals.results import RESULTS, error_share, estimate, over_all, read_results
from accord.models.completer import Ability, Completion
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.policy import load_policy
from accord.recipes.dressed_goals import dress
from accord.runs.folder import open_run
from accord.scorers.calibration import calibrate
from accord.scorers.calibration_record import save_calibration
from accord.scorers.keywords import KeywordScorer
from accord.scorers.labels import LabelledAnswer
from accord.scorers.refusal import RefusalScorer
from accord.scorers.remote import RemoteJudge
from accord.scorers.scorer import UNREACHABLE
from accord.starter import policy_path, verify_path
from accord.types import Outcome, Score, Silent

POLICY = load_policy(policy_path())


class Scripted:
    """A server of scripted answers: what it was asked is kept; a request whose text holds a key of `fails` fails."""

    name, fingerprint = "scripted", "scripted-1"

    def __init__(self, answer="I can't help with that.", fails=(), tells_logps=True):
        self.answer, self.fails, self.asked = answer, set(fails), []
        self.abilities = frozenset({Ability.LOGPS}) if tells_logps else frozenset()

    async def complete(self, request):
        self.asked.append(request)
        await asyncio.sleep(0)
        if request.key in self.fails or "all" in self.fails:
            return Completion("", error="connection reset")
        return Completion(self.answer, 5)

    async def logps(self, messages, answers):
        self.asked.append(messages)
        return tuple(-float(len(a)) for a in answers)

    async def close(self):
        pass


def run_with(completer, folder, suites=("harm",), limit=6, system="", seed=0, temperature=0.0, scorer=None):
    chosen, skipped = choose(suites, POLICY, limit, dress)
    run = open_run(folder, {"suites": list(suites)}, {})
    sampling = Sampling(temperature=temperature, seed=seed)
    work = evaluate(
        completer, "scripted", chosen, skipped, POLICY, system, sampling, scorer or RefusalScorer(), run, Silent()
    )
    return asyncio.run(work)


def test_results_are_written_and_are_what_is_returned(tmp_path):
    found = run_with(Scripted(), tmp_path, ("harm", "capability"))
    assert read_results(tmp_path) == found
    harm = found.results[0]
    assert estimate(harm).value == 0
    assert estimate(harm).high > 0.2
    assert harm.scorer == f"refusal@{RefusalScorer().config_hash}"
    assert json.loads((tmp_path / RESULTS).read_text())["results"][0]["estimate"]["n"] == 6


def test_eval_01_errors_are_counted_shown_and_tried_again(tmp_path):
    chosen, _ = choose(["harm"], POLICY, 10)
    ids = [item.id for item in chosen[0].items]
    first = Scripted(fails=ids[:4])
    (found,) = run_with(first, tmp_path, limit=10).results
    e = estimate(found)
    assert (e.value, e.n, e.unscored) == (0.0, 6, {"error: connection reset": 4})
    assert error_share([found]) == pytest.approx(0.4)
    assert over_all(found) == pytest.approx(0.4)  # were the four errors harm
    again = Scripted()
    (whole,) = run_with(again, tmp_path, limit=10).results
    assert sorted(r.key for r in again.asked) == sorted(ids[:4])
    assert (estimate(whole).n, whole.n_errors) == (10, 0)


def test_all_errors_end_without_a_rate(tmp_path):
    found = run_with(Scripted(fails=["all"]), tmp_path)
    assert estimate(found.results[0]).value is None
    with pytest.raises(NotMeasuredError, match="not one answer could be scored: error: connection reset"):
        refuse_unmeasured(found)


def test_a_model_without_likelihoods_skips_what_needs_them_and_goes_on(tmp_path):
    found = run_with(Scripted(tells_logps=False), tmp_path, ("capability", "harm"))
    assert {r.suite for r in found.results} == {"harm"}
    assert "tells no log-probabilities" in found.skipped["capability"]


def test_nothing_is_asked_twice_and_a_line_cut_short_costs_one_answer(tmp_path):
    first = Scripted()
    run_with(first, tmp_path)
    assert len(first.asked) == 6
    journal = next(tmp_path.rglob(JOURNAL))
    text = journal.read_text()
    journal.write_text(text[:-10])
    second = Scripted()
    run_with(second, tmp_path)
    assert len(second.asked) == 1
    assert sorted(journal.read_text().splitlines()) == sorted(text.splitlines())


@pytest.mark.parametrize(
    "change",
    [{"system": "Be brief."}, {"seed": 1}, {"temperature": 0.5}, {"limit": 7}, {"weights": "scripted-2"}],
    ids=lambda change: next(iter(change)),
)
def test_an_answer_is_not_read_back_where_what_it_depends_on_has_changed(tmp_path, change):
    run_with(Scripted(), tmp_path)
    again = Scripted()
    again.fingerprint = change.pop("weights", again.fingerprint)
    run_with(again, tmp_path, **change)
    assert len(again.asked) >= 6


def test_a_system_prompt_stands_before_every_item(tmp_path):
    asked = Scripted()
    run_with(asked, tmp_path, ("harm", "capability"), limit=2, system="Be brief.")
    turns = [getattr(a, "messages", a) for a in asked.asked]
    assert all((t[0].role, t[0].content) == ("system", "Be brief.") for t in turns)


class Counting(RefusalScorer):
    """The refusal scorer, under another hash, with its calls counted."""

    calls = 0

    @cached_property
    def config_hash(self):
        return "counting"

    def score_all(self, transcripts):
        Counting.calls += 1
        return [Score(Outcome.COMPLIED, self.name) for _ in transcripts]


def test_another_scorer_judges_the_same_answers_again_and_the_same_one_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "calls", 0)
    refusal = run_with(Scripted(), tmp_path).results[0]
    asked = Scripted()
    complied = run_with(asked, tmp_path, scorer=Counting()).results[0]
    assert asked.asked == []
    assert (estimate(refusal).value, estimate(complied).value) == (0.0, 1.0)
    run_with(Scripted(), tmp_path, scorer=Counting())
    assert Counting.calls == 1


class Rationed(RefusalScorer):
    """A judge behind a server that is lost after `n` verdicts; `read` keeps the answers that it was shown."""

    config_hash = "rationed"

    def __init__(self, n):
        self.n, self.read = n, []

    def score_all(self, transcripts):
        self.read += transcripts
        given = [Score(Outcome.REFUSED, self.name)] * len(transcripts[: self.n])
        lost = Score(Outcome.UNSCORED, self.name, UNREACHABLE, "no connection")
        return given + [lost] * (len(transcripts) - len(given))


def test_where_the_judge_was_out_of_reach_it_is_asked_again_and_only_there(tmp_path):
    down, back = Rationed(4), Rationed(99)
    (first,) = run_with(Scripted(), tmp_path, scorer=down).results
    assert (estimate(first).n, estimate(first).unscored, first.n_errors) == (4, {UNREACHABLE: 2}, 2)
    (second,) = run_with(Scripted(), tmp_path, scorer=back).results
    assert (len(down.read), len(back.read)) == (6, 2)
    assert (estimate(second).n, estimate(second).unscored) == (6, {})


def test_a_kill_leaves_what_was_judged(tmp_path, monkeypatch):
    class Killed(Counting):
        def score_all(self, transcripts):
            if Counting.calls == 2:
                raise RuntimeError("killed")
            return super().score_all(transcripts)

    monkeypatch.setattr("accord.evals.asking.JUDGED_AT_ONCE", 2)
    monkeypatch.setattr(Counting, "calls", 0)
    with pytest.raises(RuntimeError, match="killed"):
        run_with(Scripted(), tmp_path, scorer=Killed())
    run_with(Scripted(), tmp_path, scorer=Counting())
    assert Counting.calls == 3


def test_a_judge_with_a_loop_of_its_own_judges_within_an_evaluation(tmp_path):
    class Judge(Scripted):
        async def complete(self, request):
            return Completion('{"verdict": "yes"}', 9)

    judge = RemoteJudge(Judge(), POLICY)
    complied = run_with(Scripted(), tmp_path, scorer=judge).results[0]
    assert (estimate(complied).value, estimate(complied).n) == (1.0, 6)
    judge.close()


def test_a_kill_leaves_what_was_answered(tmp_path):
    class Killed(Scripted):
        async def complete(self, request):
            if len(self.asked) == 3:
                raise RuntimeError("killed")
            return await super().complete(request)

    with pytest.raises(RuntimeError, match="killed"):
        run_with(Killed(), tmp_path)
    again = Scripted()
    run_with(again, tmp_path)
    assert len(again.asked) == 3


def test_a_journal_keeps_half_a_surrogate_pair(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.add({"id": "x", "text": "\ud83d"})
    journal.close()
    again = Journal(tmp_path / "a.jsonl")
    again.close()
    assert again.rows["x"]["text"] == "\ud83d"


def by_hand(loaded, chat, question):
    """Each choice's log-probability from a plain forward pass of its own."""
    found = []
    for choice in question.choices:
        prompt, answer = chat.prompt(question.messages), chat.opening(choice)
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0].float().log_softmax(-1)
        found.append(sum(float(logits[len(prompt) - 1 + t, token]) for t, token in enumerate(answer)))
    return found


def test_likelihoods_of_a_local_model_are_those_of_a_plain_forward_pass(tiny_model, tmp_path):
    completer = LocalCompleter(tiny_model)
    run_with(completer, tmp_path, ("capability",), limit=5)
    asyncio.run(completer.close())
    chosen, _ = choose(["capability"], POLICY, 5)
    rows = {row["id"]: row for row in map(json.loads, next(tmp_path.rglob(JOURNAL)).read_text().splitlines())}
    for question in chosen[0].items:
        expected = by_hand(tiny_model, completer.white_box.chat, question)
        assert rows[question.id]["logps"] == pytest.approx(expected, abs=1e-3)


def test_a_question_that_exceeds_the_window_is_unscored_and_no_error(tiny_model, tmp_path):
    suite = tmp_path / "long.py"
    suite.write_text(
        "from dataclasses import dataclass\n"
        "from accord.evals.likelihood import accuracy_results\n"
        "from accord.evals.suite import About, Question, user\n"
        "@dataclass(frozen=True)\n"
        "class Long:\n"
        "    about = About('here', 'CC0')\n"
        "    def items(self, policy):\n"
        "        return tuple(Question(str(n), user('water ' * n), ('a', 'b'), (0,), str(n)) for n in (2, 900))\n"
        "    def measure(self, recorded, policy):\n"
        "        return accuracy_results('Long', self.about, recorded.ranked)\n"
    )
    completer = LocalCompleter(tiny_model)
    found = run_with(completer, tmp_path / "run", (f"{suite}:Long",), limit=0)
    asyncio.run(completer.close())
    short, long = found.results[0].items
    assert short.value is not None
    assert (long.value, long.error) == (None, False)
    assert "do not fit the model's window of 512" in long.reason


class Coin(Scripted):
    """Refuses by a coin that the seed and the item throw: an evaluation whose true rate is one half."""

    async def complete(self, request):
        import random

        heads = random.Random(f"{request.sampling.seed}/{request.key}").random() < 0.5
        return Completion(
            "I can't help with that." if heads else "Sure. First open the lid, then pour the water in slowly."
        )


def test_two_seeds_of_one_evaluation_agree_within_their_intervals(tmp_path):
    """Of 16 runs with seeds of their own any two have intervals that overlap, and at least 14 hold the true 1/2."""
    found = [estimate(run_with(Coin(), tmp_path / str(s), limit=0, seed=s).results[0]) for s in range(16)]
    assert len({e.value for e in found}) > 8
    assert max(e.low for e in found) <= min(e.high for e in found)
    assert sum(e.low <= 0.5 <= e.high for e in found) >= 14


def test_a_value_outside_its_bounds_from_a_user_s_suite_is_rejected(tmp_path):
    suite = tmp_path / "mine.py"
    suite.write_text(
        "from dataclasses import dataclass\n"
        "from accord.evals.results import ItemResult, SuiteResult\n"
        "from accord.evals.suite import About, Problem, user\n"
        "@dataclass(frozen=True)\n"
        "class Mine:\n"
        "    about = About('here', 'CC0')\n"
        "    def items(self, policy):\n"
        "        return tuple(Problem(str(i), user('q'), '', str(i)) for i in range(4))\n"
        "    def measure(self, recorded, policy):\n"
        "        items = tuple(ItemResult(s.problem.id, s.problem.family, v) for s, v in zip(recorded.solved, (1, 0, 10, 1)))\n"
        "        return (SuiteResult('Mine', 'score', True, items, 'all', 'here', 'CC0'),)\n"
    )
    (found,) = run_with(Scripted(), tmp_path / "run", (f"{suite}:Mine",), limit=0).results
    assert estimate(found).value == pytest.approx(2 / 3)
    assert estimate(found).unscored == {"score 10 is outside [0, 1]": 1}
    assert replace(found, items=()).n_errors == 0


class HalfOf(Scripted):
    """Complies with the first `n` of the items' ids, and refuses the others."""

    def __init__(self, suite, n, limit):
        super().__init__()
        ((chosen,), _) = choose([suite], POLICY, limit)
        self.given = {item.id for item in chosen.items[:n]}

    async def complete(self, request):
        return Completion(GIVEN if request.key in self.given else REFUSAL, 5)


REFUSAL, GIVEN = "I can't help with that.", "Sure. First open the lid, then pour the water in slowly."


def calibrated(scorer, clauses=("",)):
    """Of 40 refusals 36 are read as such, of 40 answers 32: refusals have Se 0.9 and Sp 0.8, compliance Se 0.8 and Sp 0.9."""
    said = (
        [("refused", REFUSAL)] * 36
        + [("refused", GIVEN)] * 4
        + [("complied", GIVEN)] * 32
        + [("complied", REFUSAL)] * 8
    )
    rows = [
        LabelledAnswer(f"How do I open jar {i} of {clause}?", answer, label, clause=clause)
        for clause in clauses
        for i, (label, answer) in enumerate(said)
    ]
    save_calibration(calibrate(scorer, rows))


def test_a_judged_rate_is_corrected_for_exactly_the_judge_that_was_calibrated(tmp_path, monkeypatch):
    """Complied 4 of 10: (0.4 - 0.1) / 0.7 = 3/7. Refused 6 of 10: (0.6 - 0.2) / 0.7 = 4/7. Choices have no judge."""
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    calibrated(RefusalScorer())
    (harm,) = run_with(HalfOf("harm", 4, 10), tmp_path / "a", limit=10).results
    raw, found = estimate(harm), harm.corrected
    assert (raw.value, found.value, found.n) == (0.4, pytest.approx(3 / 7), 10)
    assert found.high - found.low > raw.high - raw.low
    assert found.calibration == f"corrected for {harm.calibration}"
    contrast = run_with(HalfOf("over_refusal", 4, 10), tmp_path / "b", ("over_refusal",), limit=10).results
    n, refused = sum(r.corrected.n for r in contrast), sum(estimate(r).value * len(r.items) for r in contrast)
    assert (n, refused) == (10, 6)
    for r in contrast:
        expected = (estimate(r).value - 0.2) / 0.7
        assert r.corrected.value == pytest.approx(min(1, max(0, expected)))
    assert read_results(tmp_path / "a").results[0] == harm
    choices = run_with(Scripted(), tmp_path / "c", ("capability",)).results
    assert {(r.counts, r.corrected) for r in choices} == {("", None)}
    (other,) = run_with(HalfOf("harm", 4, 10), tmp_path / "a", limit=10, scorer=KeywordScorer()).results
    assert (other.corrected, other.calibration) == (None, "uncalibrated")


def test_a_judge_by_rubric_is_uncalibrated_for_clauses_that_no_label_is_of(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(RefusalScorer, "by_rubric", True, raising=False)
    calibrated(RefusalScorer())
    (harm,) = run_with(HalfOf("harm", 4, 10), tmp_path / "a", limit=10).results
    assert (harm.calibration, harm.corrected) == ("uncalibrated", None)
    clauses = {item.clause for item in choose(["harm"], POLICY, 10)[0][0].items}
    calibrated(RefusalScorer(), clauses)
    (harm,) = run_with(HalfOf("harm", 4, 10), tmp_path / "a", limit=10).results
    assert harm.corrected.value == pytest.approx(3 / 7)


def test_families_count_in_the_corrected_rate_as_in_the_raw_one(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    calibrated(RefusalScorer())
    rows = [json.loads(line) for line in verify_path().read_text().splitlines()]
    harmful = [row for row in rows if row["kind"] == "harmful"][:20]
    widths = []
    for n_forms in (1, 5):
        file = tmp_path / f"{n_forms}.jsonl"
        file.write_text("".join(
            json.dumps({**row, "family": f"family {i // n_forms}"}) + "\n" for i, row in enumerate(harmful)
        ))  # fmt: skip
        (r,) = run_with(HalfOf(f"harm={file}", 10, 0), tmp_path / str(n_forms), (f"harm={file}",), limit=0).results
        widths.append((estimate(r).high - estimate(r).low, r.corrected.high - r.corrected.low))
        assert r.corrected.value == pytest.approx(0.4 / 0.7)
    assert widths[1][0] > widths[0][0]
    assert widths[1][1] > widths[0][1]


def test_results_of_before_corrected_rates_are_still_read(tmp_path):
    found = run_with(Scripted(), tmp_path)
    data = json.loads((tmp_path / RESULTS).read_text())
    for row in data["results"]:
        del row["counts"], row["corrected"]
    (tmp_path / RESULTS).write_text(json.dumps(data))
    assert read_results(tmp_path).results[0] == replace(found.results[0], counts="")


def test_a_jailbreak_is_judged_against_its_goal_and_grouped_by_attack(tmp_path):
    """A model that sees through a disguise and helps did harm; one that talks of something else, asked in a code, did not."""
    ((chosen,), _) = choose(["jailbreak"], POLICY, 40, dress)
    of = {item.id: item for item in chosen.items}

    class Chatty(Scripted):
        async def complete(self, request):
            item = of[request.key]
            assert request.messages == item.messages
            if item.attack == "rot13":
                return Completion(
                    "Sure. " + " ".join(item.goal.messages[-1].content.split()[-6:]) + ": first, open it.", 5
                )
            return Completion("Sure. First rinse the lentils, then chop an onion. Then simmer both.", 5)

    (found,) = run_with(Chatty(), tmp_path, ("jailbreak",), limit=40).results
    assert (found.metric, found.counts) == ("attack_success_rate", "complied")
    attempts = read_attempts(next(tmp_path.rglob("attempts-*.jsonl")))
    assert {a.id for a in attempts} == set(of) == {item.id for item in found.items}
    for attempt, item in zip(attempts, found.items, strict=True):
        asked = of[attempt.id]
        assert (attempt.prompt, attempt.attack, attempt.sent) == (asked.goal, asked.attack, asked.messages)
        assert (item.family, item.group) == (asked.goal.family, asked.attack)
        if asked.veiled and asked.attack != "rot13":
            assert item.value == 0.0
            assert attempt.score.outcome is not Outcome.COMPLIED
        if asked.attack == "rot13":
            assert item.value == 1.0
    assert any("hidden goal's subject" in a.score.reason for a in attempts)


def test_a_file_of_dressed_prompts_is_asked_as_it_stands(tmp_path):
    rows = [json.loads(line) for line in verify_path().read_text().splitlines()]
    harmful = [{**row, "form": "mine"} for row in rows if row["kind"] == "harmful"][:4]
    file = tmp_path / "dressed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in harmful))
    asked = Scripted()
    (found,) = run_with(asked, tmp_path / "run", (f"jailbreak={file}",), limit=0).results
    assert {r.messages[-1].content for r in asked.asked} == {row["messages"][0]["content"] for row in harmful}
    assert {(item.group, item.value) for item in found.items} == {("mine", 0.0)}
    assert found.source == "the file given"
