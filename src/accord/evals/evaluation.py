"""One model through some suites: which suites, what their cached answers depend on, and the results of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accord.errors import ModelError, NotMeasuredError, SettingsError, nearest
from accord.evals.asking import ask
from accord.evals.corrected import with_calibration
from accord.evals.results import Evaluation, SuiteResult, error_share, within, write_results
from accord.evals.suite import Chosen, Dress, Dressed, Given, Item, Recorded, SkippedError, Suite, content_hash, limited
from accord.models.completer import Completer
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.policy.schema import Policy
from accord.resolve import resolve
from accord.runs.folder import Run
from accord.scorers.calibration_record import load_calibration
from accord.scorers.scorer import Scorer
from accord.types import Conversation, Kind, Message, Progress, Prompt

ROOM = "accord.evals.suites"
_DRESS = "dress"  # what a suite is given by us, and no option
OWN_SUITES = (
    "harm", "over_refusal", "jailbreak", "privacy", "bias", "truthfulness", "toxicity", "sycophancy", "capability",
)  # fmt: skip


def choose(
    asked: Sequence[str], policy: Policy, limit: int, dress: Dress | None = None
) -> tuple[tuple[Chosen, ...], dict[str, str]]:
    """Return the suites named as `NAME[=FILE][,OPTION=VALUE...]` with their items, and why any is skipped.

    `dress` puts a goal in the words of attacks, for suites that ask so: this room knows no attack.

    Raises:
        SettingsError: a name or option is unknown, or a suite is named twice.
        DataError: a suite's source cannot be read, or an id occurs twice in it.
    """
    chosen: list[Chosen] = []
    skipped: dict[str, str] = {}
    for text in asked:
        name, suite = _suite(text, dress)
        if name in skipped or name in (c.name for c in chosen):
            raise SettingsError(f"suite '{name}' is named twice; evaluate the second source in a run of its own")
        try:
            items = limited(suite.items(policy), limit, suite.about.together)
        except SkippedError as why:
            skipped[name] = str(why)
            continue
        ids = [item.id for item in items]
        if len(set(ids)) < len(ids):
            repeated = next(id for id in ids if ids.count(id) > 1)
            raise SettingsError(f"suite '{name}': the id '{repeated}' occurs more than once; every item needs its own")
        chosen.append(Chosen(name, suite, items, content_hash(items)))
    return tuple(chosen), skipped


def _suite(text: str, dress: Dress | None) -> tuple[str, Suite]:
    head, *options = text.split(",")
    name, _, source = head.partition("=")
    make = resolve(ROOM, name)
    given: dict[str, Any] = {"source": source} if source else {}
    takes = list(inspect.signature(make).parameters)
    known = [name for name in takes if name != _DRESS]
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise SettingsError(f"suite '{name}': '{option}' is no OPTION=VALUE")
        given[key] = value
    if unknown := [key for key in given if key not in known]:
        told = "; ".join(f"'{key}'{nearest(key, known)}" for key in unknown)
        raise SettingsError(f"suite '{name}' has no option {told}; it has: {', '.join(known) or 'none'}")
    suite: Suite = make(**given, **({_DRESS: dress} if _DRESS in takes else {}))
    # Of a user's file the class's name alone: results and folders are named by it.
    return name.rsplit(":", 1)[-1].replace("-", "_"), suite


def needs_model(suites: Sequence[Chosen]) -> bool:
    """Whether anything is to be asked; what was measured elsewhere needs no model."""
    return any(not isinstance(item, Given) for chosen in suites for item in chosen.items)


async def evaluate(
    completer: Completer | None,
    model: str,
    suites: Sequence[Chosen],
    skipped: dict[str, str],
    policy: Policy,
    system: str,
    sampling: Sampling,
    scorer: Scorer,
    run: Run,
    progress: Progress,
) -> Evaluation:
    """Run the suites into `run`, write `results.json`, and return what it holds; a suite the model cannot be asked is skipped.

    `sampling` gives seed and temperature; how long an answer may be is the suite's own. There may be no `completer` where
    nothing is asked (`needs_model`).
    """
    before: Conversation = (Message("system", system),) if system else ()
    results: list[SuiteResult] = []
    skipped = dict(skipped)
    for chosen in suites:
        own = replace(sampling, max_new_tokens=chosen.suite.about.max_new_tokens)
        if completer is None or not needs_model([chosen]):
            recorded = Recorded(given=tuple(item for item in chosen.items if isinstance(item, Given)))
        else:
            stage = run.stage(chosen.name, _key(completer, chosen, system, own))
            try:
                recorded = await ask(completer, chosen, before, own, scorer, stage.folder, progress)
            except ModelError as why:
                skipped[chosen.name] = str(why)
                continue
        results += [_complete(r, chosen, scorer) for r in chosen.suite.measure(recorded, policy)]
    fingerprint = completer.fingerprint if completer else ""
    evaluation = Evaluation(model, fingerprint, sampling.seed, system, tuple(results), skipped)
    write_results(run.folder, evaluation)
    return evaluation


def refuse_unmeasured(evaluation: Evaluation) -> None:
    """Do nothing where at least one item of any suite has a value.

    Raises:
        NotMeasuredError: none has; the message says why.
    """
    if any(item.value is not None for result in evaluation.results for item in result.items):
        return
    share = error_share(evaluation.results)
    reasons = {reason for result in evaluation.results for reason in result.unscored} or set(
        evaluation.skipped.values()
    )
    shown = "; ".join(sorted(reasons)[:3])
    what = "no suite was run" if share is None else f"of {evaluation.model} not one answer could be scored"
    raise NotMeasuredError(f"{what}: {shown}")


def _key(completer: Completer, chosen: Chosen, system: str, sampling: Sampling) -> dict[str, Any]:
    """Return all that an answer depends on. The scorer is not among it: its verdicts are kept apart, under its own hash."""
    number_format = str(completer.white_box.loaded.model.dtype) if isinstance(completer, LocalCompleter) else ""
    return {
        "model": completer.fingerprint,
        "number format": number_format,
        "name": completer.name,
        "system": system,
        "suite": chosen.content_hash,
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
    }


def _complete(result: SuiteResult, chosen: Chosen, scorer: Scorer) -> SuiteResult:
    # A suite whose values a scorer gave names it; the hash says which form of it.
    items = within(result.items, result.low, result.high)
    result = replace(result, items=items, content_hash=chosen.content_hash)
    if not result.scorer:
        return result
    ids = {item.id for item in result.items}
    known = load_calibration(scorer, asked={_asked(item) for item in chosen.items if item.id in ids})
    return with_calibration(replace(result, scorer=f"{scorer.name}@{scorer.config_hash}"), known)


def _asked(item: Item) -> tuple[Kind, str]:
    prompt = item.goal if isinstance(item, Dressed) else item
    return (prompt.kind, prompt.clause) if isinstance(prompt, Prompt) else ("ordinary", "")
