"""A GRPO update with each prompt computed once for its group of answers, against each answer with a prompt of its own.

Both ways are Accord's: LoRA on all layers, the same sampled answers, the same advantages, one pass over them, no reference (a
penalty's forward pass gains as much from sharing). The prompts are hh-rlhf's, whole conversations; the answers are the starter's
own samples of at most 64 tokens; sampling is outside the measured time. First losses and gradients at the same weights are
compared.

What sharing can gain at most is the ratio of positions, printed; attention, which reads the prompt all the same, keeps it below.

Run: `python benchmarks/grpo_update.py [--quick] [--group 8]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import data_folder, processor, say
from torch import Tensor, nn
from two_ways import Way, compare, options_of

from accord.data import read_comparisons
from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.precision import Precision, pick_device
from accord.models.rollout import Rollout, generate
from accord.models.sampling import Sampling
from accord.models.tree import Tree, head_weight
from accord.objectives.advantages import grpo_advantages
from accord.objectives.grpo import grpo
from accord.train.mixture import Mixture
from accord.train.sampled import Penalties, Reinforced, Weighed
from accord.train.states import NOTHING_FROZEN

SEED, RANK, PROMPTS_PER_STEP, MAX_NEW_TOKENS = 0, 16, 8, 64
LEAST_RATIO = {8: 1.8}
Group = tuple[tuple[int, ...], list[Rollout]]


def choose_groups(folder: Path, n: int, size: int, max_tokens: int, max_new_tokens: int) -> list[Group]:
    """Return n prompts of at most `max_tokens`, each with `size` answers that the starter samples."""
    loaded = load_model("starter")
    chat = ChatFormat(loaded.tokenizer)
    comparisons = read_comparisons(folder / "hh-rlhf" / "harmless-base.dev.jsonl.gz", drop=True).comparisons
    prompts = sorted({chat.prompt(c.messages) for c in comparisons})
    chosen = random.Random(SEED).sample([p for p in prompts if len(p) <= max_tokens], n)
    keys = [f"{i}/{k}" for i in range(n) for k in range(size)]
    rows = [p for p in chosen for _ in range(size)]
    answers = generate(loaded.model, rows, keys, chat.end_ids, Sampling(max_new_tokens, 1.0, SEED))
    return [(p, answers[i * size : (i + 1) * size]) for i, p in enumerate(chosen)]


def fresh(precision: Precision) -> nn.Module:
    """Return the starter with new adapters that do something, the same every time."""
    loaded = load_model("starter", precision)
    torch.manual_seed(SEED)
    model: nn.Module = add_lora(loaded, RANK, first_layer=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.01)
    return model


def advantages_of(groups: Sequence[Group]) -> list[list[Tensor]]:
    """Return each answer's advantage at each of its tokens, by group, of rewards drawn at random."""
    rng = torch.Generator().manual_seed(SEED)
    found = []
    for _, answers in groups:
        rewards = torch.rand(len(answers), generator=rng)
        values = grpo_advantages(rewards, torch.zeros(len(answers), dtype=torch.long)).values_S
        found.append([value.expand(len(a.ids)) for value, a in zip(values, answers, strict=True)])
    return found


def ways(groups: Sequence[Group]) -> tuple[Way, Way]:
    """Return both ways of the same groups."""
    shared, apart = [], []
    weights: dict[str, list[Weighed]] = {"shared": [], "apart": []}
    for (prompt, answers), own in zip(groups, advantages_of(groups), strict=True):
        logps = [torch.tensor(a.logps) for a in answers]
        shared.append(Tree(prompt, tuple(a.ids for a in answers)))
        weights["shared"].append(Weighed(torch.cat(own), torch.cat(logps)))
        apart += [Tree(prompt, (a.ids,)) for a in answers]
        weights["apart"] += [Weighed(one, logp) for one, logp in zip(own, logps, strict=True)]

    def task(name: str, model: nn.Module, trees: Sequence[Tree]) -> Mixture:
        part = Reinforced(trees, weights[name], head_weight(model), grpo, Penalties())
        return Mixture(trees, [0] * len(trees), (part,), NOTHING_FROZEN)

    size = len(groups[0][1])
    return (
        Way("prompt shared", shared, PROMPTS_PER_STEP, lambda model, trees: task("shared", model, trees)),
        Way("prompt each", apart, PROMPTS_PER_STEP * size, lambda model, trees: task("apart", model, trees)),
    )


def main() -> None:
    """Compare losses and gradients, then time both ways in turn."""
    options = options_of(__doc__, prompts=16, group=8)
    device, size = pick_device(), options.group
    groups = choose_groups(
        data_folder(), options.prompts, size, 60 if options.quick else 512, 8 if options.quick else MAX_NEW_TOKENS
    )
    both = ways(groups)
    positions = [sum(t.length for t in way.trees) for way in both]
    say(
        f"{processor(device)}; {len(groups)} prompts of {size} answers: {positions[0]} positions, with a prompt each "
        f"{positions[1]} ({positions[1] / positions[0]:.2f} times)"
    )
    work = f"GRPO update, LoRA r{RANK}, {len(groups)} prompts of {size} answers of at most {MAX_NEW_TOKENS} tokens"
    more = {"work": work, "positions": positions}
    compare(both, ways(groups[:2]), fresh, len(groups), options, device, LEAST_RATIO.get(size), more)


if __name__ == "__main__":
    main()
