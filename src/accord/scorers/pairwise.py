"""Which of two answers is better, asked in both orders: a preference that turns with the order is none, and is reported.

Position bias: Zheng et al. 2023, "Judging LLM-as-a-judge", arXiv 2306.05685, section 3.3. Exactly two questions a pair. Intervals
are clustered by the pairs' families.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accord.errors import DataError, SettingsError, nearest
from accord.models.chat import ChatFormat
from accord.models.completer import Completer, Request
from accord.models.load import LoadedModel, load_model, window
from accord.models.opening import open_completer
from accord.models.sampling import Sampling
from accord.scorers.label_tokens import LabelShares, label_shares
from accord.scorers.quoting import MARKED, mark_of
from accord.scorers.remote import MAX_NEW_TOKENS, form_asked
from accord.scorers.rubric import MIN_MASS, NO_LABEL, TOO_LONG
from accord.scorers.verdicts import Problem, read_verdict, resembles_verdict
from accord.stats.bootstrap import clustered_proportion, effective_size
from accord.stats.intervals import WinRate, wilson, win_rate
from accord.types import Estimate, Message

Choice = Literal["first", "second", "tie"]
Winner = Literal["ours", "theirs", "tie"]
_CHOICES: dict[str, Choice] = {"A": "first", "B": "second", "Tie": "tie"}
_FORMS = (("A", " A"), ("B", " B"))
_ROOM = 16  # tokens that the label may take
TURNED = "turned with the order"
TIE = "a tie in both orders"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one request; `preferred` is the one that people prefer, None where nobody said.

    `family` is what intervals are clustered by; a pair without one stands for itself.
    """

    id: str
    request: str
    ours: str
    theirs: str
    family: str = ""
    preferred: Winner | None = None


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
    """A pair's winner over both orders: the same answer twice, else a tie; None where either order has no verdict.

    `replies` are what a judge said that answers in words, to ours first and to theirs first.
    """

    pair: str
    winner: Winner | None
    consistent: bool | None
    problem: str = ""
    replies: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class PairwiseResult:
    """The games, how many of the judged pairs turned with the order, and how often the judge was asked.

    `agreement` is the share of the pairs with a winner, and with a preference by people, where the two are the same; pairs without
    a winner are counted beside it.
    """

    games: WinRate
    inconsistent: Estimate
    agreement: Estimate
    verdicts: tuple[PairVerdict, ...]
    n_calls: int


async def judge_pairs(pairs: Sequence[Pair], judge: Judge) -> PairwiseResult:
    """Have every pair judged in both orders. An inconsistent pair is a tie; a pair without a verdict is no game."""
    shown = [s for p in pairs for s in (Shown(p.request, p.ours, p.theirs), Shown(p.request, p.theirs, p.ours))]
    picked = list(await judge(shown)) if shown else []
    verdicts = tuple(_verdict(p, *picked[2 * i : 2 * i + 2]) for i, p in enumerate(pairs))
    missing = dict(Counter(v.problem for v in verdicts if v.winner is None))
    judged = [(p.family or p.id, v) for p, v in zip(pairs, verdicts, strict=True) if v.winner is not None]
    families = [family for family, _ in judged]
    inconsistent = clustered_proportion([v.consistent is False for _, v in judged], families, missing)
    agreement = _agreement(pairs, verdicts)
    return PairwiseResult(_games(judged, missing), inconsistent, agreement, verdicts, len(shown))


def _games(judged: Sequence[tuple[str, PairVerdict]], missing: Mapping[str, int]) -> WinRate:
    won = Counter(v.winner for _, v in judged)
    games = win_rate(won["ours"], won["tie"], won["theirs"])
    known = replace(games.adjusted, unscored=missing)
    if games.adjusted_win_rate is not None:
        points = [{"ours": 1.0, "tie": 0.5, "theirs": 0.0}[str(v.winner)] for _, v in judged]
        n = effective_size(points, [family for family, _ in judged]).n
        low, high = wilson(games.adjusted_win_rate * n, n)
        known = replace(known, low=low, high=high, method=f"wins + ties/2, Wilson 95%, effective n {n:.1f}")
    return replace(games, adjusted=known)


def _agreement(pairs: Sequence[Pair], verdicts: Sequence[PairVerdict]) -> Estimate:
    rated = [(p, v) for p, v in zip(pairs, verdicts, strict=True) if p.preferred in ("ours", "theirs")]
    decided = [(p, v) for p, v in rated if v.winner in ("ours", "theirs")]
    undecided = Counter(
        v.problem or (TIE if v.consistent else TURNED) for _, v in rated if v.winner not in ("ours", "theirs")
    )
    return clustered_proportion(
        [p.preferred == v.winner for p, v in decided], [p.family or p.id for p, _ in decided], undecided
    )


def _verdict(pair: Pair, forward: Picked, backward: Picked) -> PairVerdict:
    replies = (forward.reply, backward.reply)
    if forward.choice is None or backward.choice is None:
        return PairVerdict(pair.id, None, None, forward.problem or backward.problem, replies)
    one: Winner = {"first": "ours", "second": "theirs", "tie": "tie"}[forward.choice]  # type: ignore[assignment]
    other: Winner = {"first": "theirs", "second": "ours", "tie": "tie"}[backward.choice]  # type: ignore[assignment]
    return PairVerdict(pair.id, one if one == other else "tie", one == other, "", replies)


def pair_judge_named(name: str, criterion: str) -> Judge:
    """Return the judge of pairs of that name: `rubric:MODEL` in this process, or `remote:openai:NAME@URL`.

    Raises:
        SettingsError: the name is another one.
        ModelError: its model cannot be loaded.
    """
    kind, _, of = name.partition(":")
    if kind == "rubric" and of:
        return by_labels(load_model(of), criterion)
    if kind == "remote" and of:
        return by_words(open_completer(of), criterion)
    hint = nearest(kind, ("rubric", "remote"))
    raise SettingsError(f"'{name}' compares no pairs{hint}; there are: rubric:MODEL, remote:openai:NAME@URL")


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
    chat, limit = ChatFormat(loaded.tokenizer), window(loaded.model) - _ROOM

    def read(shown: Shown) -> tuple[int, ...] | Picked:
        try:
            prompt = chat.prompt([Message("user", f"{_asked(criterion, shown)[0]}\nReply A or B.")])
        except DataError as error:
            return Picked(None, f"cannot be read: {error}")
        return prompt if len(prompt) <= limit else Picked(None, TOO_LONG)

    async def judge(shown: Sequence[Shown]) -> Sequence[Picked]:
        asked = [read(s) for s in shown]
        prompts = [one for one in asked if not isinstance(one, Picked)]
        shares = iter(label_shares(loaded, chat, prompts, _FORMS) if prompts else ())
        return [one if isinstance(one, Picked) else _picked(next(shares)) for one in asked]

    return judge


def _picked(said: LabelShares) -> Picked:
    if said.mass < MIN_MASS:
        return Picked(None, NO_LABEL)
    return Picked("first" if said.shares[0] >= said.shares[1] else "second")


def _asked(criterion: str, shown: Shown) -> tuple[str, str]:
    """Return the question, and the seal where what is judged resembles a verdict."""
    parts = (("request", shown.request), ("answer A", shown.first), ("answer B", shown.second))
    mark = mark_of("\x1e".join(text for _, text in parts))
    judged = "\n".join([*(f"{mark} {name}\n{text}" for name, text in parts), f"{mark} end"])
    seal = mark.lstrip("#") if resembles_verdict(judged) else ""
    return f"You compare two answers, A and B, to one request. {criterion}\n{MARKED}\n{judged}", seal
