"""Trains small problems in as many processes as start it; the first writes losses, gradients and weights to OUT.

Run by the tests: `python -m torch.distributed.run --standalone --nproc_per_node 2 parallel_demo.py OUT`.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
import training_demo as demo

from accord.models.tree import Tree, head_weight
from accord.objectives.kto import kto
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings, fit
from accord.train.parallel import is_main, n_processes
from accord.train.preferences import Marked, answer_logps, mismatched_trees
from accord.train.states import NOTHING_FROZEN
from accord.types import Silent

# 5 rows a step: one process has more of them than the other, and the last step of a pass has fewer still.
SETTINGS = TrainSettings(epochs=2, rows_per_step=5, token_budget=40, seed=3, learning_rate=1e-3)


def kto_problem(folder):
    """Marked answers; the level they are held against is that of a whole step."""
    model, trees = demo.lora(0, std=0.1), [Tree(t.prompt, t.answers[:1]) for t in demo.trees(16, 1)]
    head, others = head_weight(model), mismatched_trees(trees)
    ref_R, other_R = (answer_logps(model, rows, NOTHING_FROZEN, head)[:, 0] - 0.1 for rows in (trees, others))
    marks = torch.tensor([i % 3 > 0 for i in range(16)])
    part = Marked(head, marks, ref_R, others, other_R, partial(kto, beta=0.5))
    return model, Mixture(trees, [0] * 16, (part,), NOTHING_FROZEN)


PROBLEMS = {"sft": demo.sft_problem, "dpo": demo.dpo_problem, "kto": kto_problem}


def main(out):
    torch.set_num_threads(1)
    found = {"processes": n_processes()}
    for name, problem in PROBLEMS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        model, task = problem(folder)
        result = fit(model, task, SETTINGS, folder, Silent(), name)
        found[name] = {
            "losses": [step.loss for step in result.steps],
            "metrics": [dict(step.metrics) for step in result.steps],
            "weights": [x for p in demo.trained(model) for x in p.detach().flatten().tolist()],
        }
    if is_main():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
