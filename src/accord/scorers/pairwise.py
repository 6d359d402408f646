"""Which of two answers is better, asked in both orders: a preference that turns with the order is none, and is reported.

Position bias: Zheng et al. 2023, "Judging LLM-as-a-judge", arXiv 2306.05685, section 3.3. Exactly two questions a pair.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from accord.models.chat import ChatFormat
from accord.models.completer import Completer, Request
from accord.models.load import LoadedModel
from accord.models.sampling import Sampling
from accord.scorers.label_tokens import label_shares
from accord.scorers.quoting import MARKED, mark_of
from accord.scorers.remote import MAX_NEW_TOKENS, form_asked
from accord.scorers.rubric import MIN_MASS, NO_LABEL
from accord.scorers.verdicts import Problem, read_verdict, resembles_verdict
from accord.stats.intervals import WinRate, proportion, win_rate
from accord.types import Estimate, Message

Choice = Literal["first", "second", "tie"]
Winner = Literal["ours", "theirs", "tie"]
_CHOICES: dict[str, Choice] = {"A": "first", "B": "second", "Tie": "tie"}
_FORMS = (("A", " A"), ("B", " B"))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one request."""

    id: str
    request: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One order in which a pair is shown."""

    request: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Picked:
    """What a judge picked of one order; None with the reason, as it is counted, where it picked nothing."""

    choice: Choice | None
    problem: str = ""
    reply: str = ""


Judge = Callable[[Sequence[Shown]], Awaitable[Sequence[Picked]]]


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A pair's winner over both orders: the same answer twice, else a tie; None where either order has no verdict."""

    pair: str
    winner: Winner | None
    consistent: bool | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PairwiseResult:
    """The games, how many of the judged pairs turned with the order, and how often the judge was asked."""

    games: WinRate
    inconsistent: Estimate
    verdicts: tuple[PairVerdict, ...]
    n_calls: int


async def judge_pairs(pairs: Sequence[Pair], judge: Judge) -> PairwiseResult:
    """Have every pair judged in both orders. An inconsistent pair is a tie; a pair without a verdict is no game."""
    shown = [s for p in pairs for s in (Shown(p.request, p.ours, p.theirs), Shown(p.request, p.theirs, p.ours))]
    picked = list(await judge(shown)) if shown else []
    verdicts = tuple(_verdict(p, *picked[2 * i : 2 * i + 2]) for i, p in enumerate(pairs))
    won = Counter(v.winner for v in verdicts)
    missing = dict(Counter(v.problem for v in verdicts if v.winner is None))
    judged = [v for v in verdicts if v.winner is not None]
    inconsistent = proportion(sum(v.consistent is False for v in judged), len(judged), missing)
    return PairwiseResult(win_rate(won["ours"], won["tie"], won["theirs"]), inconsistent, verdicts, len(shown))


def _verdict(pair: Pair, forward: Picked, backward: Picked) -> PairVerdict:
    if forward.choice is None or backward.choice is None:
        return PairVerdict(pair.id, None, None, forward.problem or backward.problem)
    one: Winner = {"first": "ours", "second": "theirs", "tie": "tie"}[forward.choice]  # type: ignore[assignment]
    other: Winner = {"first": "theirs", "second": "ours", "tie": "tie"}[backward.choice]  # type: ignore[assignment]
    return PairVerdict(pair.id, one if one == other else "tie", one == other)


def by_words(completer: Completer, criterion: str, max_new_tokens: int = MAX_NEW_TOKENS) -> Judge:
    """Return a judge that replies in words, read as strictly as every other; `criterion` says what "better" means."""
    sampling = Sampling(max_new_tokens)

    async def pick(shown: Shown) -> Picked:
        prompt, seal = _asked(criterion, shown)
        form = form_asked(tuple(_CHOICES), seal)
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        completion = await completer.complete(Request((Message("user", f"{prompt}\n{form}"),), sampling, key))
        if completion.error:
            return Picked(None, Problem.ERROR.value, completion.error)
        if completion.truncated:
            return Picked(None, Problem.TRUNCATED.value, completion.text)
        reading = read_verdict(completion.text, tuple(_CHOICES), seal)
        if reading.label is None:
            return Picked(None, str(reading.problem), completion.text)
        return Picked(_CHOICES[reading.label], "", completion.text)

    async def judge(shown: Sequence[Shown]) -> Sequence[Picked]:
        return await asyncio.gather(*map(pick, shown))

    return judge


def by_labels(loaded: LoadedModel, criterion: str) -> Judge:
    """Return a local judge that says A or B by which label is likelier to come next, all orders in one call; never a tie."""
    chat = ChatFormat(loaded.tokenizer)

    async def judge(shown: Sequence[Shown]) -> Sequence[Picked]:
        prompts = [chat.prompt([Message("user", f"{_asked(criterion, s)[0]}\nReply A or B.")]) for s in shown]
        shares = label_shares(loaded, chat, prompts, _FORMS)
        return [
            Picked("first" if s.shares[0] >= s.shares[1] else "second")
            if s.mass >= MIN_MASS
            else Picked(None, NO_LABEL)
            for s in shares
        ]

    return judge


def _asked(criterion: str, shown: Shown) -> tuple[str, str]:
    """Return the question, and the seal where what is judged resembles a verdict."""
    parts = (("request", shown.request), ("answer A", shown.first), ("answer B", shown.second))
    mark = mark_of("\x1e".join(text for _, text in parts))
    judged = "\n".join([*(f"{mark} {name}\n{text}" for name, text in parts), f"{mark} end"])
    seal = mark.lstrip("#") if resembles_verdict(judged) else ""
    return f"You compare two answers, A and B, to one request. {criterion}\n{MARKED}\n{judged}", seal
