"""What a campaign has done, on disk as it happens: every answer and verdict when it comes, every trial when it ends.

Two files of JSON lines, only ever added to, beside `goals.jsonl`. `answers.jsonl` holds each completion of the model under attack
and of the attacker, and each verdict; `trials.jsonl` each trial's beginning and its end with all attempts. Going on after a kill,
a trial that had not ended is run again and is given what it was given before, so that no question is put twice. A line that the
kill cut short is dropped: its question counts as not asked.

Left out: what white-box searches computed, which is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from accord.data.messages import messages_to_rows
from accord.data.records import attempt_from_row, read_prompts, score_from_row, score_to_row, to_row, write_records
from accord.errors import DataError, InputError
from accord.models.completer import Completion, Request
from accord.redteam.summary import Drawn, Trial
from accord.runs.atomic import write_text
from accord.types import Prompt, Score, Transcript

GOALS, ANSWERS, TRIALS = "goals.jsonl", "answers.jsonl", "trials.jsonl"
Cell = tuple[str, str]
"""An attack and a goal's id."""


class JournalError(InputError):
    """The journal cannot be written: a campaign ends there, for what it did next would be lost."""


class Past:
    """What one trial was answered before it was cut off; each entry is given once."""

    def __init__(self) -> None:
        self._answers: defaultdict[str, list[tuple[str, Completion]]] = defaultdict(list)
        self._verdicts: defaultdict[str, list[Score]] = defaultdict(list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in one line of `answers.jsonl`."""
        if "score" in row:
            self._verdicts[row["judged"]].append(score_from_row(row["score"]))
        else:
            self._answers[row["asked"]].append((row["key"], Completion(**row["completion"])))

    def answer(self, request: Request) -> Completion | None:
        """Return what this request was answered: by its key where that is there, else by its content alone.

        The order of an attack's concurrent questions, and so their keys, may differ from one run to the next.
        """
        known = self._answers[_digest(_content(request))]
        index = next((i for i, (key, _) in enumerate(known) if key == request.key), 0)
        return known.pop(index)[1] if known else None

    def verdict(self, transcript: Transcript) -> Score | None:
        """Return what this transcript was judged as."""
        known = self._verdicts[_digest(_judged(transcript))]
        return known.pop(0) if known else None


class Journal:
    """The two files in a folder, open for adding. `ended` and `begun` say what was there before.

    Raises:
        DataError: a file holds what no journal wrote.
        JournalError: the folder cannot be written.
    """

    def __init__(self, folder: Path, goals: Iterable[Prompt]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._answers = (folder / ANSWERS).open("a", encoding="ascii")
            self._trials = (folder / TRIALS).open("a", encoding="ascii")
        except OSError as error:
            raise JournalError(f"cannot write {folder}: {error.strerror or error}") from error
        if not (folder / GOALS).exists():
            write_records(folder / GOALS, goals)
        rows = _whole_rows(folder / TRIALS, mend=True)
        self.begun: dict[Cell, Drawn] = {(row["attack"], row["goal"]): row["drawn"] for row in rows}
        self.ended = {(trial.attack, trial.goal.id): trial for trial in read_trials(folder)}
        self._past: defaultdict[Cell, Past] = defaultdict(Past)
        for row in _whole_rows(folder / ANSWERS, mend=True):
            cell = row["attack"], row["goal"]
            if cell not in self.ended:
                self._past[cell].add(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.close()
        self._trials.close()

    def past(self, cell: Cell) -> Past:
        """Return what a trial was answered before it was cut off."""
        return self._past[cell]

    def keep_answer(self, cell: Cell, request: Request, completion: Completion) -> None:
        """Write down an answer."""
        content = _content(request)
        row = {"asked": _digest(content), "key": request.key, **content, "completion": asdict(completion)}
        _add(self._answers, cell, row)

    def keep_verdict(self, cell: Cell, transcript: Transcript, score: Score) -> None:
        """Write down a verdict."""
        _add(self._answers, cell, {"judged": _digest(_judged(transcript)), "score": score_to_row(score)})

    def begin(self, cell: Cell, drawn: Drawn) -> None:
        """Write down that a trial begins."""
        _add(self._trials, cell, {"drawn": drawn})

    def end(self, trial: Trial) -> None:
        """Write down how a trial ended."""
        attempts = [to_row(attempt) for attempt in trial.attempts]
        row = {"drawn": trial.drawn, "fault": trial.fault, "seconds": trial.seconds, "attempts": attempts}
        _add(self._trials, (trial.attack, trial.goal.id), row)


def read_trials(folder: Path) -> tuple[Trial, ...]:
    """Return the trials that have ended, of a campaign's folder.

    Raises:
        DataError: a file is missing, or holds what no journal wrote.
    """
    goals = {goal.id: goal for goal in read_prompts(folder / GOALS).prompts}
    trials = []
    for row in _whole_rows(folder / TRIALS):
        if "attempts" in row:
            attempts = tuple(attempt_from_row(a) for a in row["attempts"])
            goal = goals[row["goal"]]
            trials.append(Trial(row["attack"], goal, row["drawn"], attempts, row["fault"], row["seconds"]))
    return tuple(trials)


def settled_trials(folder: Path) -> tuple[Trial, ...]:
    """Return the uniform trials up to the first that has not ended, in the order that was drawn beforehand.

    What a look at a campaign under way may count. An attack stops at its success, while a failure takes its whole course: of all
    trials that have ended at some time, more succeeded than of all.

    Raises:
        DataError: as of `read_trials`.
    """
    ended = {(trial.attack, trial.goal.id): trial for trial in read_trials(folder)}
    settled: list[Trial] = []
    for row in _whole_rows(folder / TRIALS):
        if "attempts" not in row and row["drawn"] == "uniform":
            trial = ended.get((row["attack"], row["goal"]))
            if trial is None:
                break
            settled.append(trial)
    return tuple(settled)


def forget_failures(folder: Path) -> None:
    """Keep of a campaign that measured nothing what the models answered, for its next run to judge: it asks only the rest.

    Errors, verdicts and the ends of trials go; so does the beginning of an adaptive trial without an answer.
    """
    answers = [row for row in _whole_rows(folder / ANSWERS) if "completion" in row and not row["completion"]["error"]]
    answered = {(row["attack"], row["goal"]) for row in answers}
    begun = [
        row
        for row in _whole_rows(folder / TRIALS)
        # Uniform trials are a beginning of the order, in which no gap may be.
        if "attempts" not in row and (row["drawn"] == "uniform" or (row["attack"], row["goal"]) in answered)
    ]
    for name, rows in ((ANSWERS, answers), (TRIALS, begun)):
        write_text(folder / name, "".join(json.dumps(row) + "\n" for row in rows))


def _add(file: IO[str], cell: Cell, row: Mapping[str, Any]) -> None:
    # One write, handed to the operating system at once: what a kill of this process can cut short is the last line at most.
    try:
        file.write(json.dumps({"attack": cell[0], "goal": cell[1], **row}, allow_nan=False) + "\n")
        file.flush()
    except OSError as error:
        raise JournalError(f"cannot write {file.name}: {error.strerror or error}; then ask the same again") from error


def _whole_rows(path: Path, mend: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a file without a last line that is not whole; `mend` cuts that off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if mend and len(whole) < len(data):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error}; move the folder away and begin anew") from None
    return rows


def _content(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    how = {"max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
    return {"messages": messages_to_rows(request.messages), "prefill": request.prefill, **how}


def _judged(transcript: Transcript) -> dict[str, Any]:
    return {
        "messages": messages_to_rows(transcript.messages),
        "answer": transcript.answer,
        "goal": transcript.goal,
        "actions": transcript.actions,
    }


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
