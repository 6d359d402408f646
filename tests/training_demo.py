"""A small training problem that the tests of the loop share, and a driver that is killed while it trains.

`main(FOLDER, SEED)` trains once to the end in FOLDER/whole, then 25 times again, each killed at a random time and gone on with by
another process, and prints how many were killed, the whole run's digest, and the others' distinct ones. The times are of processor
time, and nine tenths of a whole training at most, so that what else the machine does cannot let a process finish before it is
killed.
"""

import hashlib
import os
import random
import shutil
import signal

import torch
from tiny_llama import tiny

from accord.models.adapters import add_lora, scaled
from accord.models.peak import matrix_peak
from accord.models.tree import Tree, head_weight
from accord.train import offline
from accord.train.imitation import sft_task
from accord.train.preferences import answer_logps, preference_task
from accord.train.states import freeze_states
from accord.types import Silent


def trees(n, n_answers, seed=0):
    rng = random.Random(seed)

    def ids(low, high):
        return tuple(rng.randrange(2, 60) for _ in range(rng.randint(low, high)))

    return [Tree((0, *ids(2, 9)), tuple((*ids(1, 6), 1) for _ in range(n_answers))) for i in range(n)]


def lora(first_layer=2, seed=0, std=0.0):
    """The tiny model under a LoRA adapter; `std` 0 is a fresh adapter, more is one that does something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = add_lora(tiny(), 4, first_layer)
        if std:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=std)
    return model.eval()


def sft_problem(folder, n=24, first_layer=2, learn=0.7, **more):
    """A fresh adapter and rows of which about two thirds are learned and the others retained."""
    model, rows = lora(first_layer), trees(n, 1)
    rng = random.Random(1)
    learned = [rng.random() < learn for _ in rows]
    states = freeze_states(model, rows, first_layer, [not x for x in learned], folder, Silent())
    head = head_weight(model)
    return model, sft_task(rows, learned, states, head, head, onsets=(3, 7), **more)


def dpo_problem(folder, n=16, first_layer=2, reference_scale=1.0, std=0.1):
    """An adapter that was trained before, and pairs whose reference is that adapter, `reference_scale` times as strong."""
    model, rows = lora(first_layer, std=std), trees(n, 2)
    states = freeze_states(model, rows, first_layer, [False] * n, folder, Silent())
    head = head_weight(model)
    with scaled(model, reference_scale):
        ref_logps = answer_logps(model, rows, states, head, Silent(), "reference")
    return model, preference_task(rows, states, head, ref_logps)


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def bits(model, result):
    """A digest of the trained weights and every step's log."""
    digest = hashlib.sha256(repr([(s.step, s.loss, sorted(s.metrics.items())) for s in result.steps]).encode())
    for parameter in trained(model):
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


class Clock:
    """Every reading is as late again as a checkpoint is due."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += offline.CHECKPOINT_EVERY_S + 1
        return self.now


N_KILLS = 25
SETTINGS = offline.TrainSettings(epochs=4, rows_per_step=8, token_budget=64, seed=3)


def train_in(folder):
    folder.mkdir(parents=True, exist_ok=True)
    model, task = sft_problem(folder)
    return bits(model, offline.fit(model, task, SETTINGS, folder, Silent(), "sft", Clock()))


def in_child(folder, kill_after_s=None):
    """Train in a forked process; return whether it was killed, and the processor time it took."""
    before = sum(os.times()[2:4])
    child = os.fork()
    if child == 0:
        if kill_after_s is not None:  # SIGPROF without a handler ends the process at once, inside whatever it does
            signal.setitimer(signal.ITIMER_PROF, kill_after_s)
        (folder.parent / f"{folder.name}.digest").write_text(train_in(folder))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("the child failed")
    return os.WIFSIGNALED(status), sum(os.times()[2:4]) - before


def main(folder, seed):
    torch.set_num_threads(1)
    matrix_peak(torch.float32, torch.device("cpu"))  # measured once, not by each child
    _, whole_s = in_child(folder / "whole")
    rng = random.Random(seed)
    n_killed, digests = 0, set()
    for n in range(N_KILLS):
        own = folder / f"killed-{n}"
        after_s = whole_s * rng.uniform(0.02, 0.9)
        while not in_child(own, after_s)[0]:  # a busy machine's processor seconds differ, and it had finished
            shutil.rmtree(own)
            after_s *= 0.8
        n_killed += 1
        in_child(own)
        digests.add((folder / f"{own.name}.digest").read_text())
    print(n_killed, (folder / "whole.digest").read_text(), *digests)
