"""Puts a suite's items to a model: many at once, each answer written as it comes, none asked for twice.

A journal (JSON lines) holds what was answered, and one for each judge what it said of that; a request that failed, to the model
or to the judge, is in neither, and is tried again when the evaluation is resumed. What may be read back from a journal is decided
by its folder's key (`evaluation`), never here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.data.records import score_from_row, score_to_row, write_records
from accord.errors import AccordError, DataError, ModelError
from accord.evals.suite import Chosen, Dressed, Given, Problem, Question, Ranked, Recorded, Solved
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.load import window
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.runs.atomic import digest, write_text
from accord.scorers.scorer import Scorer, judge_failed
from accord.scorers.topic import held_to_subject
from accord.types import Attempt, Conversation, Outcome, Progress, Prompt, Score, Transcript, last_user_text

JOURNAL = "answers.jsonl"
# A kill costs the verdicts of one part; a local judge wants its batches full.
JUDGED_AT_ONCE = 128
Asked = Prompt | Question | Problem | Dressed


class Journal:
    """Answers by item id, on disk as they come. A last line that a kill cut short is dropped."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        whole, cut = _whole_lines(path)
        for row in whole:
            self.rows[row["id"]] = row
        if cut:
            write_text(path, "".join(json.dumps(row) + "\n" for row in whole))
        self._file = path.open("a", encoding="utf-8")

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one answer."""
        self.rows[row["id"]] = dict(row)
        # Escaped to ASCII: half of a surrogate pair, which a model cut short can leave, has no UTF-8 form.
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows, False
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return rows, True
        if not line.endswith("\n"):
            return rows, True
        rows.append(row)
    return rows, False


async def ask(
    completer: Completer,
    chosen: Chosen,
    before: Conversation,
    sampling: Sampling,
    scorer: Scorer,
    folder: Path,
    progress: Progress,
) -> Recorded:
    """Ask what `folder` does not hold yet, and return all of it; a failed request is a record of its error.

    Raises:
        ModelError: questions are asked of a model that tells no log-probabilities.
    """
    if Ability.LOGPS not in completer.abilities and any(isinstance(item, Question) for item in chosen.items):
        raise ModelError(f"{completer.name} tells no log-probabilities, by which the choices are compared")
    journal = Journal(folder / JOURNAL)
    failures: dict[str, tuple[str, bool]] = {}
    # Items of like length are asked one after another: a local model pads a batch to its longest.
    asked = [i for i in chosen.items if not isinstance(i, Given) and i.id not in journal.rows]
    missing = sorted(asked, key=lambda i: (_length(i), i.id))
    progress.start(chosen.name, len(chosen.items), "items", len(chosen.items) - len(missing))

    async def one(item: Asked) -> None:
        try:
            if isinstance(item, Question):
                journal.add({"id": item.id, **await _rank(completer, item, before)})
            else:
                journal.add({"id": item.id, **await _answer(completer, item, before, sampling)})
        except _FailedError as failed:
            failures[item.id] = (str(failed), failed.is_error)
        progress.advance()

    tasks = [asyncio.create_task(one(item)) for item in missing]
    try:
        await asyncio.gather(*tasks)
    finally:
        # What is still asked for when one item fails for another reason, or at Ctrl-C, must not write to a closed journal.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        journal.close()
    progress.finish()
    # In a thread: a judge behind a server runs a loop of its own, which cannot be this one.
    return await asyncio.to_thread(
        _recorded, completer.name, chosen, journal.rows, failures, before, sampling, scorer, folder
    )


class _FailedError(Exception):
    """An item without an answer; `is_error` where a request failed, not where the item cannot be put to the model."""

    def __init__(self, reason: str, is_error: bool = True) -> None:
        super().__init__(reason)
        self.is_error = is_error


async def _answer(
    completer: Completer, item: Prompt | Problem | Dressed, before: Conversation, sampling: Sampling
) -> dict[str, Any]:
    completion: Completion = await completer.complete(Request((*before, *item.messages), sampling, item.id))
    if completion.error:
        raise _FailedError(completion.error)
    return {"text": completion.text, "n_tokens": completion.n_tokens, "truncated": completion.truncated}


async def _rank(completer: Completer, question: Question, before: Conversation) -> dict[str, Any]:
    messages = (*before, *question.messages)
    if unfit := _unfit(completer, messages, question.choices):
        raise _FailedError(unfit, is_error=False)
    try:
        return {"logps": list(await completer.logps(messages, question.choices))}
    except AccordError as error:
        raise _FailedError(str(error)) from error


def _unfit(completer: Completer, messages: Conversation, choices: Sequence[str]) -> str:
    """Return why a question cannot be put to a local model, or an empty text; a server says so itself."""
    if not isinstance(completer, LocalCompleter):
        return ""
    chat, limit = completer.white_box.chat, window(completer.white_box.loaded.model)
    try:
        n = len(chat.prompt(messages)) + max(len(chat.opening(choice)) for choice in choices)
    except DataError as error:
        return str(error)
    return f"{n} tokens do not fit the model's window of {limit}" if n > limit else ""


def _length(item: Asked) -> int:
    asked = sum(len(message.content) for message in item.messages)
    return asked + (sum(map(len, item.choices)) if isinstance(item, Question) else 0)


def _recorded(
    model: str,
    chosen: Chosen,
    rows: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, tuple[str, bool]],
    before: Conversation,
    sampling: Sampling,
    scorer: Scorer,
    folder: Path,
) -> Recorded:
    ranked: list[Ranked] = []
    solved: list[Solved] = []
    prompts: list[Prompt | Dressed] = []
    for item in chosen.items:
        row = rows.get(item.id)
        reason, error = failures.get(item.id, ("", False))
        if isinstance(item, Question):
            logps = tuple(row["logps"]) if row else ()
            ranked.append(Ranked(item, logps, f"error: {reason}" if error else reason, error))
        elif isinstance(item, Problem):
            solved.append(Solved(item, row["text"], row["truncated"]) if row else Solved(item, "", error=reason))
        elif isinstance(item, Prompt | Dressed):
            prompts.append(item)
    attempts = _scored(model, prompts, rows, failures, before, sampling, scorer, folder)
    return Recorded(attempts, tuple(ranked), tuple(solved), tuple(i for i in chosen.items if isinstance(i, Given)))


def _scored(
    model: str,
    prompts: Sequence[Prompt | Dressed],
    rows: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, tuple[str, bool]],
    before: Conversation,
    sampling: Sampling,
    scorer: Scorer,
    folder: Path,
) -> tuple[Attempt, ...]:
    """Have the answers judged; write the attempts, in the place of what another scorer said of them, and return them."""
    if not prompts:
        return ()
    key = digest([scorer.name, scorer.config_hash])[:16]
    transcripts = {p.id: _transcript(p, rows[p.id]["text"], before) for p in prompts if p.id in rows}
    scores = _judged(transcripts, scorer, folder / f"verdicts-{key}.jsonl")
    by_id = {p.id: _held(p, rows[p.id]["text"], scores[p.id]) for p in prompts if p.id in scores}
    attempts = tuple(
        _attempt(p, model, rows.get(p.id, {}), before, sampling, by_id.get(p.id) or _failed(failures[p.id][0]))
        for p in prompts
    )
    for stale in folder.glob("attempts-*.jsonl"):
        stale.unlink()
    write_records(folder / f"attempts-{key}.jsonl", attempts)
    return attempts


def _judged(transcripts: Mapping[str, Transcript], scorer: Scorer, path: Path) -> dict[str, Score]:
    """Return a score for each id: what the scorer's journal at `path` holds of this very answer, else what it says now."""
    journal = Journal(path)
    answers = {id: digest(transcript.answer) for id, transcript in transcripts.items()}
    known = {id: journal.rows[id] for id in transcripts if id in journal.rows}
    scores = {id: score_from_row(row["score"]) for id, row in known.items() if row["answer"] == answers[id]}
    missing = [id for id in transcripts if id not in scores]
    try:
        for start in range(0, len(missing), JUDGED_AT_ONCE):
            part = missing[start : start + JUDGED_AT_ONCE]
            for id, score in zip(part, scorer.score_all([transcripts[id] for id in part]), strict=True):
                scores[id] = score
                if not judge_failed(score):
                    journal.add({"id": id, "answer": answers[id], "score": score_to_row(score)})
    finally:
        journal.close()
    return scores


def _failed(reason: str) -> Score:
    return Score(Outcome.ERROR, "", reason)


def _transcript(item: Prompt | Dressed, answer: str, before: Conversation) -> Transcript:
    sent = (*before, *item.messages)
    if isinstance(item, Prompt):
        return Transcript(sent, answer, item.kind, item.clause)
    return Transcript(sent, answer, item.goal.kind, item.goal.clause, last_user_text(item.goal.messages))


def _held(item: Prompt | Dressed, answer: str, score: Score) -> Score:
    if isinstance(item, Dressed) and item.veiled:
        return held_to_subject(score, answer, last_user_text(item.goal.messages))
    return score


def _attempt(
    item: Prompt | Dressed, model: str, row: Mapping[str, Any], before: Conversation, sampling: Sampling, score: Score
) -> Attempt:
    goal, attack = (item.goal, item.attack) if isinstance(item, Dressed) else (item, "")
    return Attempt(
        id=item.id,
        prompt=goal,
        condition=model,
        answer=row.get("text", ""),
        n_tokens=row.get("n_tokens", 0),
        truncated=row.get("truncated", False),
        score=score,
        seed=sampling.seed,
        attack=attack,
        sent=(*before, *item.messages) if before or attack else (),
    )
