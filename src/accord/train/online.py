"""The online loop: sample, score, weigh, learn, again.

A step samples a group of answers to each of some prompts, scores them, weighs each against its group (or token by token, by a value
model) and takes one or more optimiser steps on them. What is sampled is kept, an object an answer, in `rollouts/` of the stage's
folder; a run that is gone on with reads from there what its model had sampled, and gives the bits of one that never stopped.

Several processes each sample and score their share of a step's prompts, and learn from all of them as one process would: with
whole weights (DDP), or where servers sample also with weights that are spread (FSDP2).

An answer that could not be scored is left out and counted. The run ends early where no group tells answers apart any more, where
the engine that samples and the model that learns have drifted apart, where the budget of divergence is spent, or where what only
watches turns down; why is said.

Where servers sample, they may run one step ahead: a step's answers then come from the weights before the last step, and what is
learned is corrected by how likely they are now (`objectives.importance`).
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from accord.errors import AccordError
from accord.models.packed import packed
from accord.models.peak import matrix_peak
from accord.models.rollout import Rollout
from accord.models.sharded import is_sharded, multiplied_in
from accord.models.tree import Tree
from accord.objectives.lagrangian import Multiplier
from accord.train.checkpoint import Position, load, save
from accord.train.collect import Asked, Judges, Source, rewarded, scored
from accord.train.imitation import Learned
from accord.train.learner import Group, Learner, Lesson, Method, OnlineSettings
from accord.train.masters import masters_of
from accord.train.methods import Reinforce
from accord.train.mixture import Mixture
from accord.train.offline import CHECKPOINT_EVERY_S, MOST_SKIPPED, Stepper, optimizer_of, schedule
from accord.train.parallel import gather, is_main, n_processes, own_rows, same_everywhere, together, wait
from accord.train.samples import Sample, measured_of, read_samples, step_file, write_samples
from accord.train.served import Served
from accord.train.states import NOTHING_FROZEN, FrozenStates
from accord.train.watch import Pace, StepLog, Work, turned_down
from accord.types import Progress

# Steps in a row in which no group tells its answers apart; then the run ends.
MOST_FLAT = 10
# How far the engine that samples and the model that learns may be apart before the run ends: the mean difference of a sampled
# token's probability, and nats a token, for models that give no token much probability.
MOST_MISMATCH, MOST_MISMATCH_KL = 0.02, 0.02


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows that are learned beside the reinforced ones, a few a step: InstructGPT's pretraining mix (ptx)."""

    trees: Sequence[Tree]
    rows_per_update: int
    coefficient: float
    states: FrozenStates = NOTHING_FROZEN


@dataclass(frozen=True, slots=True)
class OnlineResult:
    """Every step's log, why the run ended before its last step (empty: it did not), and how long it took."""

    steps: tuple[StepLog, ...]
    ended: str
    skipped: int
    seconds: float


def fit_online(
    learner: Learner,
    method: Method,
    judges: Judges,
    prompts: Sequence[Asked],
    settings: OnlineSettings,
    folder: Path,
    progress: Progress,
    kept: Kept | None = None,
    clock: Callable[[], float] = time.monotonic,
    served: Served | None = None,
) -> OnlineResult:
    """Train the model's trainable weights in place; where `folder` holds a checkpoint, training goes on from it.

    `served` samples in place of the model itself.

    Raises:
        AccordError: there are no prompts, nothing is trainable, no answer of a step could be scored, or 10 optimiser steps in a row
            (of fewer, all) were not finite.
        ModelError: a server does not answer, or as another model would.
    """
    if not prompts:
        raise AccordError("there is no prompt to sample answers to")
    with masters_of(learner.model) as masters, nullcontext() if served is None else closing(served):
        if not masters.parameters:
            raise AccordError("the model has no trainable weights")
        optimizer = optimizer_of(learner.model, masters.parameters, settings.loop)
        run = _Run(learner, method, judges, prompts, settings, folder, progress, kept, served)
        at = load(folder, settings.loop.token_budget, masters.parameters, optimizer)
        run.take_up(at.more)
        if not is_sharded(learner.model):
            same_everywhere([p.data for p in masters.parameters])
        masters.publish()
        peak = n_processes() * matrix_peak(multiplied_in(learner.model), masters.weights[0].device)
        progress.start(method.name, settings.steps, "steps", run.step)
        began = saved = clock()
        before = at.seconds
        while run.step < settings.steps and not run.ended:
            samples = run.sample(at.step)
            with packed(learner.model):
                measured, work = run.learn(
                    samples,
                    at,
                    lambda task: Stepper(learner.model, task, settings.loop, masters, optimizer, progress, method.name),
                )
            run.step += 1
            at.seconds = before + clock() - began
            at.more = run.state()
            pace = Pace(work, clock() - began, peak)
            progress.measure(method.name, run.step - 1, {**measured, **pace.measured()})
            progress.advance(1, _note(measured))
            if together(clock() - saved >= CHECKPOINT_EVERY_S, learner.model):
                save(folder, at, masters.parameters, optimizer)
                saved = clock()
        progress.finish()
        if run.ended:
            progress.say(f"{method.name} ends after {run.step} of {settings.steps} steps: {run.ended}")
        save(folder, at, masters.parameters, optimizer)
        wait()
    if at.step and at.skipped == at.step:
        raise AccordError(f"{method.name}: not one of {at.step} optimiser steps was finite; lower the rate")
    return OnlineResult(tuple(run.logs), run.ended, at.skipped, at.seconds)


@dataclass(slots=True)
class _Run:
    learner: Learner
    method: Method
    judges: Judges
    prompts: Sequence[Asked]
    settings: OnlineSettings
    folder: Path
    progress: Progress
    kept: Kept | None
    served: Served | None
    step: int = 0
    ended: str = ""
    flat_in_a_row: int = 0
    multiplier: Multiplier | None = None
    logs: list[StepLog] = field(default_factory=list)
    # The answers to the next step's prompts that are being sampled, and the version that samples them.
    running: tuple[int, int, Future[list[Rollout]]] | None = None

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept of the loop."""
        self.multiplier = self.judges.multiplier
        if not state:
            return
        self.step, self.ended, self.flat_in_a_row = int(state["step"]), state["ended"], int(state["flat_in_a_row"])
        self.logs = [StepLog(step, loss, metrics) for step, loss, metrics in state["logs"]]
        if self.multiplier is not None:
            log_lambda, costs = state["multiplier"]
            self.multiplier = replace(self.multiplier, log_lambda=log_lambda, costs=tuple(costs))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint is to keep of the loop."""
        m = self.multiplier
        return {
            "step": self.step,
            "ended": self.ended,
            "flat_in_a_row": self.flat_in_a_row,
            "logs": [(log.step, log.loss, dict(log.metrics)) for log in self.logs],
            "multiplier": None if m is None else (m.log_lambda, list(m.costs)),
        }

    def sample(self, version: int) -> list[Sample]:
        """Return the step's answers, scored: from the run's folder where they are there already."""
        path = step_file(self.folder, self.step)
        kept = read_samples(path) if is_main() and path.exists() else None
        if (kept := gather(kept)[0]) is not None:
            return kept
        asked = self._prompts_of(self.step)
        own = own_rows(asked)
        source, rollouts = self._answers(own, version)
        parts = gather(scored(source, self.judges, own, self.settings.group, rollouts, f"{self.step}/") if own else [])
        order = {a.prompt.id: place for place, a in enumerate(asked)}
        found = sorted((s for part in parts for s in part), key=lambda s: order[s.prompt])
        samples = rewarded(found, self.judges, asked)
        if is_main():
            write_samples(path, samples)
        return samples

    def _answers(self, own: Sequence[Asked], version: int) -> tuple[Source, list[Rollout]]:
        """Return answers to this process's prompts of the step, and what gave them."""
        learner, served = self.learner, self.served
        source = Source(learner.model, learner.end_ids, learner.decode, version, served.generate if served else None)
        if served is None:
            return source, self._ask(source, own, self.step)
        running, self.running = self.running, None
        if running is not None and running[0] == self.step:
            # Before the version that says them is unloaded.
            given, rollouts = replace(source, version=running[1]), running[2].result()
        else:
            served.send(version)
            given, rollouts = source, self._ask(source, own, self.step)
        if self.settings.ahead and self.step + 1 < self.settings.steps:
            served.send(version)
            following = own_rows(self._prompts_of(self.step + 1))
            pool = ThreadPoolExecutor(1)
            self.running = self.step + 1, version, pool.submit(self._ask, source, following, self.step + 1)
            pool.shutdown(wait=False)
        return given, rollouts

    def _ask(self, source: Source, own: Sequence[Asked], step: int) -> list[Rollout]:
        return source.answer(own, self.settings.group, self.settings.sampling, f"{step}/") if own else []

    def _prompts_of(self, step: int) -> list[Asked]:
        """Return a step's prompts: each pass over all of them in an order of its own."""
        n = min(self.settings.prompts_per_step, len(self.prompts))
        per_pass = len(self.prompts) // n
        turn, place = divmod(step, per_pass)
        order = list(range(len(self.prompts)))
        random.Random(f"{self.settings.loop.seed}/prompts/{turn}").shuffle(order)
        return [self.prompts[i] for i in order[place * n : (place + 1) * n]]

    def learn(
        self, samples: Sequence[Sample], at: Position, stepper: Callable[[Any], Stepper]
    ) -> tuple[dict[str, float], Work]:
        """Take the step's optimiser steps; return what was measured, and the work that they came to."""
        groups, measured = self._groups(samples)
        if not self.step:
            self._say_what_a_nat_costs(groups)
        measured = {**measured_of(samples), **measured, "versions_behind": float(at.step - samples[0].version)}
        lesson = self.method.lesson(self.learner, groups, self.settings)
        measured |= lesson.measured
        if not lesson.trees:
            self.logs.append(StepLog(self.step, math.nan, measured))
            self._see_whether_to_end(measured)
            return measured, Work()
        task = self._task(lesson)
        loop = stepper(task)
        work = Work()
        first_log = len(at.logs)
        self.learner.model.train()
        prepared = task.prepare(self.learner.model)
        for rows in self._updates(len(lesson.trees)):
            rate = schedule(self.step, self.settings.steps, self.settings.loop.warmup)
            work += loop.step(at, rows, rate, prepared)
            if at.skipped_in_a_row == MOST_SKIPPED:
                raise AccordError(f"{self.method.name}: {MOST_SKIPPED} optimiser steps in a row were not finite")
        self.learner.model.eval()
        logs = at.logs[first_log:]
        # A checkpoint holds the loop's own logs; the optimiser steps' would be there twice.
        del at.logs[first_log:]
        names = {name for log in logs for name in log.metrics}
        learned = {name: fmean(log.metrics[name] for log in logs if name in log.metrics) for name in sorted(names)}
        measured |= learned
        self.logs.append(StepLog(self.step, fmean(log.loss for log in logs), measured))
        self._see_whether_to_end(measured)
        return {"loss": self.logs[-1].loss, **measured}, work

    def _groups(self, samples: Sequence[Sample]) -> tuple[list[Group], dict[str, float]]:
        """Return each prompt's answers that have a reward, and what they cost; prompts without any are left out."""
        cost = self.judges.cost
        asked = {a.prompt.id: a for a in self.prompts}
        found: dict[str, list[Sample]] = {}
        for s in samples:
            if s.reward is not None and (cost is None or s.scores[cost.name] is not None):
                found.setdefault(s.prompt, []).append(s)
        if not found:
            reasons = Counter(reason for s in samples for reason in s.unscored.values())
            said = "; ".join(f"{n} {reason}" for reason, n in reasons.most_common(3))
            raise AccordError(f"step {self.step}: not one of {len(samples)} answers could be scored ({said})")
        groups = [
            Group(asked[id], tuple(own), torch.tensor([self._worth(s) for s in own], dtype=torch.float32))
            for id, own in found.items()
        ]
        if cost is None or self.multiplier is None:
            return groups, {}
        costs = [torch.tensor([s.scores[cost.name] for s in g.samples]) for g in groups]
        mean_cost = float(torch.cat(costs).mean())
        self.multiplier = self.multiplier.updated(mean_cost)
        combined = [
            replace(g, rewards=self.multiplier.combined(g.rewards, c)) for g, c in zip(groups, costs, strict=True)
        ]
        return combined, {"multiplier": self.multiplier.value, "cost": mean_cost}

    def _worth(self, sample: Sample) -> float:
        assert sample.reward is not None
        return sample.reward - self.settings.cut_penalty * sample.truncated

    def _say_what_a_nat_costs(self, groups: Sequence[Group]) -> None:
        """Warn where leaving the reference costs more than answers differ by: exp(reward / kl) is then next to the reference."""
        kl = self.settings.penalties.kl
        spreads = [float(g.rewards.var()) for g in groups if len(g.rewards) > 1]
        if not (kl and spreads and isinstance(self.method, Reinforce) and self.method.kl_in == "reward"):
            return
        deviation = math.sqrt(fmean(spreads))
        if deviation < kl:
            self.progress.say(
                f"the first answers to one prompt differ by a reward of {deviation:.2g} (a standard deviation), and a nat costs "
                f"{kl:g}: at best the reward rises by some {deviation / kl:.2g} deviations; give it a weight (WEIGHT*NAME) or a "
                "smaller --kl"
            )

    def _task(self, lesson: Lesson) -> Mixture:
        trees, n = lesson.trees, len(lesson.trees)
        if self.kept is None:
            return Mixture(trees, [0] * n, (lesson.part,), lesson.states)
        beside = [*trees, *self.kept.trees]
        ptx = Learned(beside, self.learner.head, name="ptx", coefficient=self.kept.coefficient)
        states = lesson.states.followed_by(self.kept.states, n)
        return Mixture(beside, [0] * n + [1] * len(self.kept.trees), (lesson.part, ptx), states)

    def _updates(self, n: int) -> Iterator[list[int]]:
        """Yield the rows of each optimiser step: the prompts in an order of its own each pass, and some rows beside."""
        rng = random.Random(f"{self.settings.loop.seed}/updates/{self.step}")
        for _ in range(self.settings.passes):
            order = rng.sample(range(n), n)
            for start in range(0, n, self.settings.prompts_per_update):
                rows = order[start : start + self.settings.prompts_per_update]
                if self.kept is not None:
                    n_kept = len(self.kept.trees)
                    rows += [n + i for i in rng.sample(range(n_kept), min(self.kept.rows_per_update, n_kept))]
                yield rows

    def _see_whether_to_end(self, measured: Mapping[str, float]) -> None:
        flat = measured.get("flat_groups", 0.0) == 1.0
        self.flat_in_a_row = self.flat_in_a_row + 1 if flat else 0
        off, off_kl, kl = (measured.get(name, 0.0) for name in ("rl/mismatch", "rl/mismatch_kl", "rl/kl"))
        if self.flat_in_a_row == MOST_FLAT:
            self.ended = (
                f"in {MOST_FLAT} steps in a row all answers to a prompt were worth the same, so that there was nothing to learn; "
                "take harder prompts, a finer reward or a higher temperature"
            )
        # Of answers by an older version the difference is what was learned since, too.
        elif not measured["versions_behind"] and (off > MOST_MISMATCH or off_kl > MOST_MISMATCH_KL):
            self.ended = (
                f"what samples and what learns give a sampled token probabilities {off:.1%} apart on average, and are {off_kl:.3f} "
                f"nats a token apart, over {MOST_MISMATCH:.0%} or {MOST_MISMATCH_KL:g} nats: what is learned would not be what was "
                "sampled"
            )
        elif self.settings.kl_budget and kl > self.settings.kl_budget:
            self.ended = f"answers are {kl:.1f} nats from the reference, over the budget of {self.settings.kl_budget:g}"
        elif self.judges.watcher is not None and turned_down(self.logs, f"score/{self.judges.watcher.name}"):
            self.ended = (
                "the watcher's score has turned down while the reward has not: what is learned pleases this reward alone; "
                "the rollouts say where"
            )


def _note(measured: Mapping[str, float]) -> str:
    names = {"reward": "reward", "rl/kl": "KL", "tokens": "tokens", "truncated": "cut", "cost": "cost"}
    return ", ".join(f"{label} {measured[name]:.3g}" for name, label in names.items() if name in measured)
