"""Trains small problems in as many processes as start it; the first writes losses, metrics and weights to OUT.

Run by the tests: `accelerate launch --config_file FILE parallel_demo.py OUT [NAME ...]`, or forked with a launcher's environment.
Each problem is trained whole, and those in RESUMED again in another folder, where they end in the middle and are gone on with.
"""

import contextlib
import json
import sys
from functools import partial
from pathlib import Path

import torch
import training_demo as demo
from tiny_llama import tiny
from vllm_server import VLLM

from accord.models.adapters import scaled
from accord.models.chat import ChatFormat
from accord.models.reward import score_head, with_score_head
from accord.models.sampling import Sampling
from accord.models.served import Servers
from accord.models.sharded import is_sharded, trained_state
from accord.models.tree import Tree, head_weight
from accord.objectives.kto import kto
from accord.recipes.online_run import method_named
from accord.recipes.saving import save_model, save_weights
from accord.recipes.settings import AlignSettings, TrainingSettings
from accord.recipes.training import (
    make_trainee,
    pair_objective,
    train_on_demonstrations,
    train_on_pairs,
)
from accord.scorers.as_reward import ByFunction, Weighted
from accord.train.collect import Asked, Judges
from accord.train.learner import Learner, OnlineSettings
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings, fit
from accord.train.online import fit_online
from accord.train.parallel import gather, is_main, n_processes
from accord.train.preferences import Marked, answer_logps, mismatched_trees
from accord.train.rewards import Ranking, reward_task
from accord.train.served import Served
from accord.train.states import NOTHING_FROZEN, freeze_states
from accord.types import Demonstration, Message, Prompt, Silent

# 5 rows a step: one process has more of them than the other, and the last step of a pass has fewer still.
SETTINGS = TrainSettings(epochs=2, rows_per_step=5, token_budget=40, seed=3, learning_rate=1e-3)


class StoppedError(Exception):
    """Ends a run in the middle."""


class Watching(Silent):
    """Ends a run after so many steps, in all processes alike."""

    def __init__(self, last_step=None):
        self.last_step = last_step

    def measure(self, stage, step, values):
        if step == self.last_step:
            raise StoppedError


def train(model, task, folder, progress):
    return fit(model, task, SETTINGS, folder, progress, "demo", demo.Clock())


def of_task(problem, folder, progress):
    """A problem that is a model and a task."""
    model, task = problem(folder)
    return model, train(model, task, folder, progress)


def kto_problem(model, head):
    """Marked answers; the level they are held against is that of a whole step."""
    trees = [Tree(t.prompt, t.answers[:1]) for t in demo.trees(16, 1)]
    others = mismatched_trees(trees, 512)
    ref_R, other_R = (answer_logps(model, rows, NOTHING_FROZEN, head)[:, 0] - 0.1 for rows in (trees, others))
    marks = torch.tensor([i % 3 > 0 for i in range(16)])
    part = Marked(head, marks, ref_R, others, other_R, partial(kto, beta=0.5))
    return model, Mixture(trees, [0] * 16, (part,), NOTHING_FROZEN)


def kto_alone(folder):
    model = demo.lora(0, std=0.1)
    return kto_problem(model, head_weight(model))


def trainee_of(folder, **settings):
    return make_trainee(tiny(), TrainingSettings(rank=4, **settings))


def pairs(folder, progress, **settings):
    trainee = trainee_of(folder, **settings)
    result = train_on_pairs(trainee, demo.trees(16, 2), pair_objective("dpo"), SETTINGS, folder, progress)
    save_model(trainee, folder / "model", "card", 1.0, "tiny")
    return trainee.model, result


def marked(folder, progress):
    trainee = trainee_of(folder)
    return of_task(lambda _: kto_problem(trainee.model, trainee.head), folder, progress)


def reward(folder, progress):
    trainee = make_trainee(with_score_head(tiny()), TrainingSettings(rank=4))
    trees = demo.trees(16, 2)
    states = freeze_states(trainee.model, trees, 0, [False] * 16, folder, Silent())
    task = reward_task(trees, [Ranking(((0, 1),))] * 16, states, score_head(trainee.model), 0.01)
    result = train(trainee.model, task, folder, progress)
    save_model(trainee, folder / "model", "card", 1.0, "tiny")
    return trainee.model, result


def demonstrations(folder, progress, **settings):
    """SFT with the term that keeps the base model on benign prompts."""
    asked = AlignSettings(rank=4, sft_epochs=2, rows_per_step=5, sft_learning_rate=1e-3, **settings)
    trainee = make_trainee(tiny(), asked)
    rows = [
        Demonstration(
            Prompt(
                id=f"p{i}",
                messages=(Message("user", f"what is the water of {i}"),),
                kind="harmful" if i % 2 else "ordinary",
                clause="H1",
                family=f"f{i}",
                split="train",
            ),
            f"the harbour {i * 7} that is",
        )
        for i in range(12)
    ]
    return trainee.model, train_on_demonstrations(trainee, rows, asked, folder, progress)


def odd(transcript):
    text = transcript.answer
    return sum(ord(c) % 2 for c in text) / len(text) if text else 0.0


JUDGES = Judges(Weighted(((1.0, ByFunction("odd", odd)),)))


def asked_of(chat, n):
    """Prompts to sample answers to."""
    prompts = [
        Prompt(f"p{i}", (Message("user", f"what is the water of {i}"),), "ordinary", "", f"p{i}", "train")
        for i in range(n)
    ]
    return [Asked(p, chat.prompt(p.messages)) for p in prompts]


def served(folder, progress):
    """As `grpo`, but a server samples, which is sent the adapter; the weights that learn may be spread."""
    trainee = trainee_of(folder)
    model, chat = trainee.model, trainee.chat
    learner = Learner(model, trainee.head, partial(scaled, model, 0.0), chat.end_ids, chat.decode)
    asked = asked_of(chat, 5)
    settings = OnlineSettings(
        steps=6, prompts_per_step=3, group=2, prompts_per_update=3, sampling=Sampling(4, 1.0), loop=SETTINGS
    )
    with VLLM(tiny()) if is_main() else contextlib.nullcontext() as server:
        url = gather(server.url if server else "")[0]
        by = Served(
            Servers("tiny", (url,)),
            learner,
            lambda to: save_weights(trainee, to, 1.0, "tiny"),
            folder / "served",
            asked[0].ids,
        )
        method = method_named("grpo", 6, {})
        result = fit_online(learner, method, JUDGES, asked, settings, folder, progress, clock=demo.Clock(), served=by)
    return model, result


def grpo(folder, progress):
    """Sampled answers: each process samples its prompts' and learns from all."""
    model = demo.lora(0)
    chat = ChatFormat(tiny().tokenizer)
    learner = Learner(model, head_weight(model), partial(scaled, model, 0.0), chat.end_ids, chat.decode)
    asked = asked_of(chat, 7)
    settings = OnlineSettings(
        steps=6, prompts_per_step=5, group=4, prompts_per_update=3, sampling=Sampling(6, 1.0), loop=SETTINGS
    )
    method = method_named("grpo", 6, {})
    return model, fit_online(learner, method, JUDGES, asked, settings, folder, progress, clock=demo.Clock())


ALONE = {  # models that nobody asked to be spread
    "sft": partial(of_task, demo.sft_problem),
    "dpo": partial(of_task, demo.dpo_problem),
    "kto": partial(of_task, kto_alone),
    "grpo": grpo,
}
WHOLE_RUNS = {
    "lora": pairs,
    "upper layers": partial(pairs, first_layer=2),
    "full": partial(pairs, method="full"),
    "marked": marked,
    "reward": reward,
    "served": served,
    "retained": demonstrations,
    "retained, full": partial(demonstrations, method="full"),
}
PROBLEMS = ALONE | WHOLE_RUNS
RESUMED = ("sft", "grpo", "lora", "upper layers", "full", "served")


def same_when_resumed(name, folder, steps, weights):
    """Whether a run that ended in the middle and was gone on with made the same steps and weights."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(StoppedError):
        PROBLEMS[name](folder, Watching(3))
    model, result = PROBLEMS[name](folder, Watching())
    same = [torch.equal(w, weights[n]) for n, w in trained_state(model).items()]
    return result.steps == steps and all(same)


def main(out, *names):
    torch.set_num_threads(1)
    found = {"processes": n_processes()}
    for name in names or PROBLEMS:
        (out / name).mkdir(parents=True, exist_ok=True)
        model, result = PROBLEMS[name](out / name, Watching())
        weights = trained_state(model)
        found[name] = {
            "sharded": is_sharded(model),
            "losses": [step.loss for step in result.steps],
            "metrics": [dict(step.metrics) for step in result.steps],
            "weights": [x for w in weights.values() for x in w.flatten().tolist()],
            "resumed": name in RESUMED and same_when_resumed(name, out / f"{name}, cut", result.steps, weights),
        }
    if is_main():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
