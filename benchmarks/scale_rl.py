r"""One step of GRPO with 8B and 70B models, computed: the last tables of docs/scale.md.

Nothing here is timed, and no GPU is touched. A step samples G answers of R tokens to each of Q prompts of P tokens, and learns from
all of them once, with LoRA on all layers. With N weights in the layers, H in the head, Λ in the adapters, h the width of all query
heads, l layers, c the tokens that a new one attends to, b bytes of keys and values a token and B answers in flight:

    a sampled token     2N + 2H + 4hlc operations, or the share of a read of all weights and of its keys and values, whichever is
                        slower: (2 (N + H) / B + bc) bytes; where the learners sample, a group's prompt is read once for the group
    a prompt            2NP operations, once a group
    learning, a group   the training pass and one pass of the reference, as everywhere on the page

Run: `python benchmarks/scale_rl.py --write docs/scale.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scale import (
    H100,
    H200,
    LLAMA_8B,
    LLAMA_70B,
    NVLINK,
    PEAK,
    SHARES,
    TO_DISK,
    Card,
    Method,
    Rows,
    Run,
    Shape,
    Spread,
    at_shares,
    bandwidth,
    brief,
    computed_flop,
    fitting,
    gib,
    memory,
    needed_flop,
    print_or_write,
    reference_flop,
    table,
    traffic,
)

from accord.models.work import Lengths, extent_of

# Bytes/s that a GPU reads of its own memory.
READS = {"H100": 3.35e12, "H200": 4.8e12}
# Of a server's memory, what vLLM takes by its default; what is left beside the weights holds keys and values.
SERVED = 0.9


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What a step samples: prompts, answers to each, tokens of a prompt and (on average) of an answer."""

    prompts: int = 128
    group: int = 8
    prompt: int = 200
    answer: int = 256

    @property
    def tokens(self) -> int:
        """Sampled tokens of a step."""
        return self.prompts * self.group * self.answer

    @property
    def lengths(self) -> Lengths:
        """A prompt and its group, as a tree."""
        return Lengths(self.prompt, (self.answer,) * self.group)


STEP = Rollouts()


@dataclass(frozen=True, slots=True)
class Machines:
    """Which GPUs do what: `learners` train, `servers` sample in instances of `split` GPUs each (0: the learners sample)."""

    words: str
    shape: Shape
    card: Card
    spread: Spread
    recompute: bool
    learners: int
    servers: int = 0
    split: int = 1

    @property
    def run(self) -> Run:
        """What is trained, as the rest of the page has it."""
        return Run(self.shape, Method.LORA, self.spread, self.recompute)


PLANS = (
    Machines("8B: one node samples and learns", LLAMA_8B, H100, Spread.WHOLE, True, 8),
    Machines("8B: one node learns, one serves", LLAMA_8B, H100, Spread.WHOLE, True, 8, 8),
    Machines("8B: one node learns, three serve", LLAMA_8B, H100, Spread.WHOLE, True, 8, 24),
    Machines("70B: two nodes learn, two serve", LLAMA_70B, H100, Spread.RESHARDED, True, 16, 16, 4),
    Machines("70B: two nodes of H200 learn, two serve", LLAMA_70B, H200, Spread.RESHARDED, True, 16, 16, 2),
)


def kv_bytes(shape: Shape) -> int:
    """Return the bytes of keys and values a token, in bf16."""
    return 2 * 2 * shape.layers * shape.key_heads * shape.head_size


def token_flop(shape: Shape, rollouts: Rollouts = STEP) -> float:
    """Return the operations of a sampled token, half of the answer behind its prompt."""
    context = rollouts.prompt + rollouts.answer / 2
    return 2.0 * (shape.layers * shape.of_layer + shape.of_head) + 4 * shape.query_width * shape.layers * context


def in_flight(plan: Machines, rollouts: Rollouts = STEP) -> int:
    """Return how many answers an instance holds at once: as many as its memory holds whole, and at most its part of the step."""
    instances = (plan.servers or plan.learners) // plan.split
    most = -(-rollouts.prompts * rollouts.group // instances)
    held = 2.0 * plan.shape.weights
    usable = SERVED * plan.card.gib * 2**30 * plan.split
    of_group = kv_bytes(plan.shape) * (rollouts.prompt + rollouts.group * rollouts.answer)
    return min(most, rollouts.group * int((usable - held) // of_group))


def sampling_seconds(plan: Machines, share: float, rollouts: Rollouts = STEP) -> float:
    """Return how long the step's answers take at a share of what the GPUs could do at most, of products or of reads."""
    shape, split = plan.shape, plan.split
    instances = (plan.servers or plan.learners) // split
    answers = -(-rollouts.prompts * rollouts.group // instances)
    n_rows = in_flight(plan, rollouts)
    body, head = shape.layers * shape.of_layer, shape.of_head
    products = n_rows * token_flop(shape, rollouts) / (split * PEAK)
    # Accord reads a group's prompt once for all of its answers; vLLM holds it once, and reads it for each.
    prompt = rollouts.prompt / (1 if plan.servers else rollouts.group)
    kept = n_rows * (prompt + rollouts.answer / 2) * kv_bytes(shape)
    reads = (2.0 * (body + head) + kept) / (split * READS[plan.card.name])
    # Two sums over the instance's GPUs a layer, of a row's states in bf16.
    split_traffic = 0.0 if split == 1 else 2 * shape.layers * 2 * (1 - 1 / split) * n_rows * 2 * shape.width / NVLINK
    a_step = max(products, reads) / share + split_traffic
    prefill = answers / rollouts.group * 2.0 * body * rollouts.prompt / (split * PEAK * share)
    return rollouts.answer * (answers / n_rows) * a_step + prefill


def learning_seconds(plan: Machines, share: float, rollouts: Rollouts = STEP) -> float:
    """Return how long one pass over the step's answers takes, the reference's among it; each GPU has as many groups."""
    run, extent = plan.run, extent_of([rollouts.lengths])
    groups = -(-rollouts.prompts // plan.learners)
    products = groups * (computed_flop(run, extent) + reference_flop(run, extent)) / (share * PEAK)
    if plan.spread is Spread.WHOLE:
        return products + 2 * (1 - 1 / plan.learners) * 4.0 * run.trained / bandwidth(plan.learners)
    # The reference's pass gathers the weights once more.
    moved = traffic(run, plan.learners) + 2.0 * run.weights * (1 - 1 / plan.learners)
    return max(products, groups * moved / bandwidth(plan.learners))


def sending_seconds(plan: Machines) -> float:
    """Return how long an adapter is on its way: written in fp32 and read by each server from a shared file system."""
    return 2 * 4.0 * plan.run.trained / TO_DISK if plan.servers else 0.0


def step_table() -> str:
    """What a step takes, by who samples."""
    lines: list[list[str]] = []
    for plan in PLANS:
        sampling, learning = ([part(plan, s) for s in SHARES] for part in (sampling_seconds, learning_seconds))
        sending = sending_seconds(plan)
        in_turn = [a + b + sending for a, b in zip(sampling, learning, strict=True)]
        beside = [max(a, b) + sending for a, b in zip(sampling, learning, strict=True)]
        lines.append([
            plan.words, str(plan.learners), str(plan.servers), fitting(learner_memory(plan)), f"{in_flight(plan):,}",
            at_shares(*sampling), at_shares(*learning), brief(sending) if sending else "", at_shares(*in_turn),
            at_shares(*beside) if plan.servers else "", at_shares(*(STEP.tokens / s for s in in_turn)),
        ])  # fmt: skip
    return table(
        [
            f"{STEP.prompts} prompts of {STEP.prompt} tokens, {STEP.group} answers of {STEP.answer}", "GPUs that learn",
            "that serve", "GiB a GPU that learns", "answers in flight", "s, sampling", "s, learning", "s, sending", "s a step",
            "a step ahead", "tokens/s, in turn",
        ],
        lines,
    )  # fmt: skip


def learner_memory(plan: Machines) -> float:
    """Return the bytes that a learning GPU holds; where it samples too, the keys and values of its answers come at another time.

    A group is a tree of its own micro-batch: as large as a pair whose answers are half of the group's each.
    """
    half = STEP.group * STEP.answer // 2
    return memory(replace(plan.run, rows=Rows("group", STEP.prompt, half, half)), plan.learners)


def limit_table() -> str:
    """What a sampled token and a group need at least."""
    lines: list[list[str]] = []
    for shape in (LLAMA_8B, LLAMA_70B):
        body, extent = shape.layers * shape.of_layer, extent_of([STEP.lengths])
        run = Run(shape, Method.LORA, Spread.WHOLE)
        lines.append([
            shape.name, f"{token_flop(shape) / 1e9:.1f}", f"{kv_bytes(shape) / 1e3:.0f}", gib(2.0 * (body + shape.of_head)),
            f"{needed_flop(run, extent) / 1e12:.0f}", f"{reference_flop(run, extent) / 1e12:.0f}",
            f"{run.trained * 4 / 1e6:.0f}",
        ])  # fmt: skip
    return table(
        [
            "", "GFLOP a sampled token", "KB of keys and values a token", "GiB read a decoding step", "TFLOP a group, training",
            "its reference", "MB an adapter",
        ],
        lines,
    )  # fmt: skip


def tables() -> dict[str, str]:
    """Return the tables by name."""
    return {"rl-limits": limit_table(), "rl-steps": step_table()}


if __name__ == "__main__":
    print_or_write(tables())
