r"""Memory and throughput of training 8B and 70B models on 8 to 512 GPUs, computed: the tables of docs/scale.md.

Nothing here is timed, and no GPU is touched. Operations are those of `accord.models.work`; micro-batches are laid out by the
trainer's own rule; bytes are counted from what the trainer holds. With h the width, a that of all query heads, F the inner
width, H query heads, r the adapters' rank, V the vocabulary, l the weights of one layer, R those of embedding and head, N all
weights, Λ those of the adapters, n GPUs and rows of L positions, in bytes:

    kept for the backward pass, a position and layer, bf16:
        full              16h + 8a + 8F             + 2L + 4H + 8
        LoRA              28h + 12a + 10F + 28r     + 2L + 4H + 8
        recomputed        2h
      where the norm is Accord's own (not under FSDP2) 8h less in full training, 4h less with LoRA
    held                  DDP: full 18N, LoRA 2N + 16Λ;  FSDP2: full 16N/n, LoRA (2N + 16Λ)/n
    around a micro-batch  FSDP2: 2R + 6l, or 2N where weights are kept after the forward pass; one layer's activations (two where
                          they are recomputed); full training besides: the head's gradient or two layers' (6Vh or 12l)
    at the end of a step  FSDP2 full: 8R for the sum of what stands outside the layers; 4 bytes a trained weight of one process
    while weights load    DDP: 2N;  FSDP2: N/n and R, times 4 in full training and 2 with adapters

Run: `python benchmarks/scale.py`, or with `--write docs/scale.md` to put the tables where the page marks their places.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from accord.models.head import CHUNK_ROWS, TRAINED_CHUNK_ROWS
from accord.models.tree import FORWARD_TOKENS, layout
from accord.models.work import Extent, Lengths, Sizes, extent_of, training_flop
from accord.train.offline import CHECKPOINT_EVERY_S, LEAST_BETWEEN, TrainSettings
from accord.train.states import MOST_BYTES

GIB = float(1 << 30)
N_GPUS = (8, 16, 32, 64, 128, 256, 512)
N_ROWS = 100_000
RANK = 16
TOKEN_BUDGET = TrainSettings().token_budget
# The share of a GPU's memory that training may take; the rest is for CUDA, NCCL and what the allocator cannot use.
USABLE = 0.9
# A GPU's peak in bf16 FLOP/s; bytes/s to the GPUs of its node; bytes/s of one network adapter, of which each GPU has one.
PEAK = 989e12
NVLINK = 450e9
ADAPTER = 400e9 / 8
GPUS_PER_NODE = 8
SHARES = (0.2, 0.4)
# Bytes/s from a GPU to ordinary host memory, and from there to a shared file system.
TO_HOST, TO_DISK = 10e9, 2e9
# How long a process waits for another one over NCCL, in seconds, before PyTorch ends the run; unless set otherwise.
NCCL_LIMIT_S = 600
# Of one logit where log-probabilities are taken: bf16, and three times fp32 and once bf16 while softmax and entropy are.
LOGIT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its memory, in GiB as its driver states it."""

    name: str
    gib: float

    @property
    def usable(self) -> float:
        """Bytes that training may take."""
        return self.gib * GIB * USABLE


H100, H200 = Card("H100", 79.6), Card("H200", 140.4)


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama by its public configuration; embedding and head are two matrices. Norms, 0.01 % of the weights, are left out."""

    name: str
    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's linear maps: query, key, value, output, gate, up, down."""
        h, a, k, f = self.width, self.query_width, self.key_heads * self.head_size, self.inner
        return ((h, a), (h, k), (h, k), (a, h), (h, f), (h, f), (f, h))

    @property
    def of_layer(self) -> int:
        """Weights of one layer."""
        return sum(n_in * n_out for n_in, n_out in self.maps)

    @property
    def of_head(self) -> int:
        """Weights of the head, and as many of the embedding."""
        return self.width * self.vocabulary

    @property
    def weights(self) -> int:
        """All weights."""
        return self.layers * self.of_layer + 2 * self.of_head

    def sizes(self, n_layers: int, head: bool, adapted: bool) -> Sizes:
        """Return the sizes of so many layers, under the head or not."""
        adapters = n_layers * RANK * sum(map(sum, self.maps)) if adapted else 0
        return Sizes(n_layers * self.of_layer, self.of_head if head else 0, adapters, n_layers, self.query_width)


LLAMA_8B = Shape("Llama 3.1 8B", 4096, 14336, 32, 32, 8, 128, 128256)
LLAMA_70B = Shape("Llama 3.1 70B", 8192, 28672, 80, 64, 8, 128, 128256)
SHAPES = (LLAMA_8B, LLAMA_70B)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one length: tokens of the prompt, of the preferred answer and of the other."""

    name: str
    prompt: int
    chosen: int
    rejected: int


HH, LONG = Rows("hh-rlhf", 149, 42, 52), Rows("long", 1000, 500, 500)


class Objective(Enum):
    """What is learned of a row. `DPO_INSIDE` counts the reference's one forward pass beside the training pass."""

    DPO_CACHED = "DPO, reference cached"
    DPO_INSIDE = "DPO, reference inside"
    REWARD = "reward model"
    SFT = "SFT"

    def lengths(self, rows: Rows) -> Lengths:
        """Return a row's prompt and the answers that hang on it."""
        return Lengths(rows.prompt, (rows.chosen,) if self is Objective.SFT else (rows.chosen, rows.rejected))


class Method(Enum):
    """Which weights are trained. `UPPER` is `--layers upper`: adapters from two fifths of the layers up."""

    LORA = "LoRA, all layers"
    UPPER = "LoRA, upper layers"
    FULL = "full"

    def first_layer(self, shape: Shape) -> int:
        """Return the first layer that is trained."""
        return round(0.4 * shape.layers) if self is Method.UPPER else 0

    def trained(self, shape: Shape) -> int:
        """Return how many weights are trained."""
        if self is Method.FULL:
            return shape.weights
        return shape.sizes(shape.layers - self.first_layer(shape), False, True).adapters


class Spread(Enum):
    """Where the weights are: whole on each GPU, or in parts, and then gathered again for the backward pass or kept for it."""

    WHOLE = "DDP"
    RESHARDED = "FSDP2"
    KEPT = "FSDP2, kept"


@dataclass(frozen=True, slots=True)
class Run:
    """What is trained, and how it is laid out."""

    shape: Shape
    method: Method
    spread: Spread
    recompute: bool = False
    objective: Objective = Objective.DPO_CACHED
    rows: Rows = HH

    @property
    def has_head(self) -> bool:
        """Whether the language-model head is among the trained model's parts."""
        return self.objective is not Objective.REWARD

    @property
    def weights(self) -> int:
        """Weights of the trained model."""
        return self.shape.weights - (0 if self.has_head else self.shape.of_head)

    @property
    def trained(self) -> int:
        """How many of them are trained; adapters are not among them, and counted beside."""
        return self.weights if self.method is Method.FULL else self.method.trained(self.shape)


@dataclass(frozen=True, slots=True)
class Micro:
    """One micro-batch: rows of data, positions computed, positions of a laid-out row."""

    n_rows: int
    positions: int
    width: int


def micro_of(lengths: Lengths, budget: int = TOKEN_BUDGET) -> Micro:
    """Fill a token budget with rows of one length."""
    length = lengths.prompt + sum(lengths.answers)
    n_rows = max(1, budget // length)
    laid, width = layout([length] * n_rows, 0)
    return Micro(n_rows, len(laid) * width, width)


def saved_bytes(shape: Shape, method: Method, row_width: int, fused: bool) -> int:
    """Return what a trained layer keeps for the backward pass, in bytes a position, without recomputation.

    Keys and values are repeated for their group of queries before attention is computed, where there is more than one key head; the
    mask is kept as numbers. `fused`: as a model runs whose weights are whole in each process, through `accord.models.packed`; where
    they are trained that is the norm alone, elsewhere than on a CPU.
    """
    h, a, f = shape.width, shape.query_width, shape.inner
    common = 2 * row_width + 4 * shape.heads + 8
    if method is Method.FULL:
        return (8 if fused else 16) * h + 8 * a + 8 * f + common
    if fused:  # maps of one input keep it once
        return 8 * h + 8 * a + 6 * f + 14 * RANK + common
    # PEFT casts each map's input to fp32, for each map anew, and keeps it.
    return 28 * h + 12 * a + 10 * f + 28 * RANK + common


def memory(run: Run, n_gpus: int) -> float:
    """Return the most bytes that a GPU holds while a run trains, once the model is in place."""
    shape, full, whole = run.shape, run.method is Method.FULL, run.spread is Spread.WHOLE
    micro = micro_of(run.objective.lengths(run.rows))
    of_layer = micro.positions * saved_bytes(shape, run.method, micro.width, fused=whole)
    if run.recompute:
        n_layers = shape.layers - run.method.first_layer(shape)
        activations = 2 * shape.width * micro.positions * n_layers + 2 * of_layer
    else:
        activations = of_layer * (shape.layers - run.method.first_layer(shape) + 1)
    head = of_head_weight = 0
    if run.has_head:
        head = LOGIT_BYTES * shape.vocabulary * (TRAINED_CHUNK_ROWS if full else CHUNK_ROWS)
        of_head_weight = 6 * shape.of_head if full else 0
    # A reward model's base head is kept whole, for the held-out comparison with the base model.
    beside = 0 if run.has_head else 2 * shape.of_head
    outside = shape.of_head * (2 if run.has_head else 1)
    held: float
    if whole:
        held = (18.0 if full else 2.0) * run.weights + (0 if full else 16 * run.trained)
        gathered, ends = 0, 4.0 * run.trained
        gradients = of_head_weight
    else:
        held = (16.0 * run.trained if full else 2.0 * run.weights + 16 * run.trained) / n_gpus
        gathered = 2 * run.weights if run.spread is Spread.KEPT else 2 * outside + 6 * shape.of_layer
        ends = max(8.0 * outside if full else 0.0, 4.0 * run.trained / n_gpus)
        gradients = max(of_head_weight, 12 * shape.of_layer) if full else 0
    return held + beside + max(gathered + activations + gradients + head, ends)


def loading(shape: Shape, method: Method, spread: Spread, n_gpus: int) -> float:
    """Return the most bytes that a GPU holds while the model is put in place.

    Under FSDP2 layers come from the host one by one, and a GPU keeps its part; last comes what stands outside them, together.
    """
    if spread is Spread.WHOLE:
        return 2.0 * shape.weights
    a_weight = 4.0 if method is Method.FULL else 2.0
    return a_weight * (shape.weights / n_gpus + max(shape.of_layer, 2 * shape.of_head))


def host_copy(shape: Shape, method: Method, spread: Spread, file_in_bf16: bool = True) -> float:
    """Return the bytes of host memory that each process needs for itself while the model loads.

    Weights that are computed with in the file's own format are mapped from it: a node holds those pages once, and they are not
    counted. Full training under FSDP2 makes all weights fp32 before they are spread.
    """
    if method is Method.FULL and spread is not Spread.WHOLE:
        return 4.0 * shape.weights
    return 0.0 if file_in_bf16 else 2.0 * shape.weights


def forward_flop(run: Run, extent: Extent, n_layers: int, head: bool) -> float:
    """Return the operations of a forward pass through so many layers: what one pass of a reference adds."""
    sizes = run.shape.sizes(n_layers, head, adapted=False)
    return training_flop(sizes, extent, "lora", 1) - training_flop(sizes, extent, "lora", 0)


def needed_flop(run: Run, extent: Extent) -> float:
    """Return the operations that rows need; layers below the first trained one are run forward in each pass."""
    first = run.method.first_layer(run.shape)
    trained: Literal["lora", "full"] = "full" if run.method is Method.FULL else "lora"
    sizes = run.shape.sizes(run.shape.layers - first, run.has_head, run.method is not Method.FULL)
    flop = training_flop(sizes, extent, trained) + forward_flop(run, extent, first, head=False)
    if run.objective is Objective.DPO_INSIDE:
        flop += reference_flop(run, extent)
    return flop


def reference_flop(run: Run, extent: Extent) -> float:
    """Return the operations of the reference's pass."""
    return forward_flop(run, extent, run.shape.layers, head=True)


def computed_flop(run: Run, extent: Extent) -> float:
    """Return what is needed and what is computed again to spare memory."""
    again = run.shape.layers - run.method.first_layer(run.shape) if run.recompute else 0
    return needed_flop(run, extent) + (forward_flop(run, extent, again, head=False) if again else 0.0)


def bandwidth(n_gpus: int) -> float:
    """Return the bytes/s at which a GPU receives what all others hold.

    Within a node over NVLink; between nodes each adapter brings an eighth, which NVLink hands on.
    """
    return NVLINK if n_gpus <= GPUS_PER_NODE else min(NVLINK, GPUS_PER_NODE * ADAPTER)


def traffic(run: Run, n_gpus: int) -> float:
    """Return the bytes that a GPU receives a micro-batch under FSDP2: weights in bf16, gradients to be summed in fp32."""
    gathers = 1 if run.spread is Spread.KEPT else 2
    outside = run.shape.of_head * (2 if run.has_head else 1)
    weights = 2.0 * (gathers * (run.weights - outside) + outside)
    return (weights + 4.0 * run.trained) * (1 - 1 / n_gpus)


def step_seconds(run: Run, n_gpus: int, share: float) -> float:
    """Return how long a step of one micro-batch a GPU takes: products and traffic beside each other; DDP's sum comes after."""
    lengths = run.objective.lengths(run.rows)
    micro = micro_of(lengths)
    products = computed_flop(run, extent_of([lengths] * micro.n_rows)) / (share * PEAK)
    if run.spread is Spread.WHOLE:
        return products + 2 * (1 - 1 / n_gpus) * 4.0 * run.trained / bandwidth(n_gpus)
    return max(products, traffic(run, n_gpus) / bandwidth(n_gpus))


def rate(run: Run, n_gpus: int, share: float) -> float:
    """Return rows a second of all GPUs together."""
    return n_gpus * micro_of(run.objective.lengths(run.rows)).n_rows / step_seconds(run, n_gpus, share)


def reference_seconds(run: Run, n_gpus: int, share: float) -> float:
    """Return how long the reference's pass over all rows takes; processes share its batches out.

    Under FSDP2 each batch brings the layers' weights together once; what stands outside them stays.
    """
    lengths = run.objective.lengths(run.rows)
    n_rows = micro_of(lengths, FORWARD_TOKENS).n_rows
    n_batches = math.ceil(math.ceil(N_ROWS / n_rows) / n_gpus)  # of the process that has the most
    a_batch = reference_flop(run, extent_of([lengths] * n_rows)) / (share * PEAK)
    if run.spread is Spread.RESHARDED:
        moved = 2.0 * run.shape.layers * run.shape.of_layer * (1 - 1 / n_gpus)
        a_batch = max(a_batch, moved / bandwidth(n_gpus))
    return n_batches * a_batch


def states_seconds(run: Run, n_rows: int, share: float) -> float:
    """Return how long one GPU takes for the states of so many rows that enter the first adapted layer of `--layers upper`."""
    extent = extent_of([run.objective.lengths(run.rows)])
    n_frozen = Method.UPPER.first_layer(run.shape)
    return n_rows * forward_flop(run, extent, n_frozen, head=False) / (share * PEAK)


def saving_seconds(run: Run) -> float:
    """Return how long a checkpoint takes: trained weights and two moments in fp32, to the main process and from there to disk."""
    size = checkpoint_bytes(run)
    return size / TO_HOST + size / TO_DISK


def checkpoint_bytes(run: Run) -> float:
    """Return the size of a checkpoint."""
    return 12.0 * run.trained


def seconds_between(saving: float) -> float:
    """Return how long a run goes on between two checkpoints that take so long each."""
    return max(CHECKPOINT_EVERY_S, LEAST_BETWEEN * saving)


def n_saves(training: float, saving: float) -> int:
    """Return how many checkpoints a run of so many seconds writes: as they fall due, and the last one at its end."""
    if training < CHECKPOINT_EVERY_S:
        return 1
    return 2 + int((training - CHECKPOINT_EVERY_S) // seconds_between(saving))


def chosen(shape: Shape, method: Method, rows: Rows, n_gpus: int, card: Card = H100) -> Run | None:
    """Return the first way of training that fits a card's memory once the model is in place: DDP before FSDP2."""
    for spread in (Spread.WHOLE, Spread.RESHARDED):
        for recompute in (False, True):
            run = Run(shape, method, spread, recompute, rows=rows)
            if memory(run, n_gpus) <= card.usable:
                return run
    return None


# What follows writes the tables.


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, whose numbers stand to the right."""
    rule = ["---" if n == 0 else "---:" for n in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def gib(n_bytes: float) -> str:
    """Write bytes in GiB."""
    return f"{n_bytes / GIB:,.1f}" if n_bytes < 10 * GIB else f"{n_bytes / GIB:,.0f}"


def brief(value: float) -> str:
    """Write a number with three significant figures, or all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def at_shares(low: float, high: float) -> str:
    """Write what comes out at each share of the peak."""
    return f"{brief(low)} / {brief(high)}"


def duration(low: float, high: float) -> str:
    """Write hours at each share of the peak, in hours, minutes or seconds."""
    unit, size = next(((u, n) for u, n in (("h", 1), ("min", 60)) if high * n >= 0.5), ("s", 3600))
    return f"{brief(low * size)} / {brief(high * size)} {unit}"


def fitting(n_bytes: float) -> str:
    """Write GiB, and on which card they fit."""
    if n_bytes <= H100.usable:
        return gib(n_bytes)
    return f"{gib(n_bytes)} †" if n_bytes <= H200.usable else f"{gib(n_bytes)} ✗"


def held_table() -> str:
    """Weights, and bytes of activations a position."""
    lines: list[list[str]] = []
    for shape in SHAPES:
        adapters = (Method.LORA.trained(shape), Method.UPPER.trained(shape))
        kept = [
            saved_bytes(shape, m, 1024, fused) * shape.layers
            for m, fused in ((Method.LORA, True), (Method.LORA, False), (Method.FULL, False))
        ]
        lines.append([
            shape.name, f"{shape.weights / 1e9:.2f}", f"{shape.of_layer / 1e6:.0f}", f"{2 * shape.of_head / 1e9:.2f}",
            *(f"{n / 1e6:.0f}" for n in adapters), *(f"{n / 1e6:.1f}" for n in kept),
            f"{2 * shape.width * shape.layers / 1e6:.2f}",
        ])  # fmt: skip
    return table(
        [
            "model", "weights, 10⁹", "a layer, 10⁶", "embedding and head, 10⁹", "adapters, all layers, 10⁶", "upper, 10⁶",
            "kept a position, LoRA, DDP, MB", "LoRA, FSDP2, MB", "full, FSDP2, MB", "recomputed, MB",
        ],
        lines,
    )  # fmt: skip


def loading_table() -> str:
    """What a GPU and a node hold while the model is put in place."""
    lines: list[list[str]] = []
    for shape in SHAPES:
        for spread in (Spread.WHOLE, Spread.RESHARDED):
            on_gpu = [fitting(loading(shape, m, spread, n)) for m in (Method.LORA, Method.FULL) for n in (8, 64)]
            copies = [
                host_copy(shape, Method.LORA, spread),
                host_copy(shape, Method.LORA, spread, file_in_bf16=False),
                host_copy(shape, Method.FULL, spread),
            ]
            on_host = [gib(2.0 * shape.weights), *(gib(GPUS_PER_NODE * n) if n else "0" for n in copies)]
            lines.append([f"{shape.name}, {spread.value}", *on_gpu, *on_host])
    return table(
        [
            "", "a GPU of 8, LoRA", "of 64", "a GPU of 8, full", "of 64", "a node: file", "copies, LoRA",
            "copies, LoRA, file not in bf16", "copies, full",
        ],
        lines,
    )  # fmt: skip


def memory_table(shape: Shape) -> str:
    """GiB a GPU, by way of training and number of GPUs."""
    lines: list[list[str]] = []
    for method in Method:
        for spread in Spread:
            for recompute in (False, True):
                run = Run(shape, method, spread, recompute, rows=LONG)
                cells = [fitting(memory(run, n)) for n in N_GPUS]
                lines.append([f"{method.value}; {spread.value}{', recomputed' if recompute else ''}", *cells])
    return table([shape.name, *map(str, N_GPUS)], lines)


def objective_table() -> str:
    """GiB a GPU by objective, on 64 GPUs under FSDP2."""
    lines: list[list[str]] = []
    for objective in (Objective.DPO_CACHED, Objective.REWARD, Objective.SFT):
        cells = []
        for shape in SHAPES:
            for method in Method:
                runs = [Run(shape, method, Spread.RESHARDED, again, objective, LONG) for again in (False, True)]
                cells.append(" / ".join(fitting(memory(run, 64)) for run in runs))
        lines.append([objective.value.removesuffix(", reference cached"), *cells])
    return table(["", *(f"{s.name.split()[-1]} {m.value}" for s in SHAPES for m in Method)], lines)


def work_table(shape: Shape) -> str:
    """What a row needs, and what one GPU makes of it at each share of its peak."""
    lines: list[list[str]] = []
    for rows in (HH, LONG):
        for objective in Objective:
            for method in Method:
                run = Run(shape, method, Spread.WHOLE, objective=objective, rows=rows)
                lengths = objective.lengths(rows)
                flop = needed_flop(run, extent_of([lengths]))
                per_s = [share * PEAK / flop for share in SHARES]
                tokens = lengths.prompt + sum(lengths.answers)
                lines.append([
                    f"{rows.name}: {objective.value}; {method.value}", f"{flop / 1e12:.2f}", at_shares(*per_s),
                    at_shares(*(x * tokens for x in per_s)), at_shares(*(N_ROWS / x / 3600 for x in per_s)),
                ])  # fmt: skip
    return table([shape.name, "TFLOP a row", "rows/s", "tokens/s", f"GPU-hours, {N_ROWS:,} rows"], lines)


def traffic_table() -> str:
    """What a micro-batch moves, and from how many positions its products take longer than that."""
    lines: list[list[str]] = []
    for shape in SHAPES:
        for method in (Method.LORA, Method.FULL):
            for spread in (Spread.RESHARDED, Spread.KEPT):
                run = Run(shape, method, spread)
                lengths = run.objective.lengths(run.rows)
                micro = micro_of(lengths)
                products = computed_flop(run, extent_of([lengths] * micro.n_rows))
                moved = {n: traffic(run, n) for n in (8, 64)}
                per_position = products / micro.positions / PEAK  # seconds at the peak
                links = ((moved[8], NVLINK), (moved[64], bandwidth(64)), (moved[64], ADAPTER))
                enough = [" / ".join(f"{s * size / link / per_position:,.0f}" for s in SHARES) for size, link in links]
                lines.append([
                    f"{shape.name.split()[-1]}, {method.value}; {spread.value}", gib(moved[64]),
                    f"{1e3 * moved[8] / NVLINK:,.0f}", f"{1e3 * moved[64] / bandwidth(64):,.0f}",
                    " / ".join(f"{1e3 * products / (s * PEAK):,.0f}" for s in SHARES), *enough,
                ])  # fmt: skip
    return table(
        [
            "", "GiB a micro-batch", "ms, NVLink", "ms, network", "ms, products", "enough positions, NVLink",
            "network", "one adapter alone",
        ],
        lines,
    )  # fmt: skip


def hours_table(shape: Shape, rows: Rows) -> str:
    """Pairs a second and the time that `N_ROWS` pairs of DPO take, in the first way that fits an H100."""
    lines: list[list[str]] = []
    for n in N_GPUS:
        line = [str(n), f"{n * micro_of(Objective.DPO_CACHED.lengths(rows)).n_rows:,}"]
        for method in Method:
            run = chosen(shape, method, rows, n)
            if run is None:
                line += ["does not fit", *[""] * (3 if method is Method.LORA else 2)]
                continue
            rates = [rate(run, n, share) for share in SHARES]
            line += [
                run.spread.value + (", recomputed" if run.recompute else ""),
                at_shares(*rates),
                duration(*(N_ROWS / r / 3600 for r in rates)),
            ]
            if method is Method.LORA:
                with_reference = (N_ROWS / rate(run, n, s) + reference_seconds(run, n, s) for s in SHARES)
                line.append(duration(*(seconds / 3600 for seconds in with_reference)))
        lines.append(line)
    lora, *others = ([f"{m.value}: way", "pairs/s", "time"] for m in Method)
    head = [*lora, "with the reference's pass", *(name for columns in others for name in columns)]
    return table([f"{shape.name.split()[-1]}, {rows.name}: GPUs", "rows a step", *head], lines)


def reference_table() -> str:
    """How long the reference's pass takes, how many pairs' frozen states are kept, and what these take."""
    lines: list[list[str]] = []
    for shape in SHAPES:
        for rows in (HH, LONG):
            lengths = Objective.DPO_CACHED.lengths(rows)
            of_a_pair = 2 * shape.width * (lengths.prompt + sum(lengths.answers))
            n_kept = MOST_BYTES // of_a_pair
            line = [f"{shape.name}, {rows.name}"]
            for n_gpus in (8, 64, 512):
                run = chosen(shape, Method.LORA, rows, n_gpus)
                line.append(duration(*(reference_seconds(run, n_gpus, s) / 3600 for s in SHARES)) if run else "")
            states = Run(shape, Method.UPPER, Spread.WHOLE, rows=rows)
            line += [f"{n_kept:,}", duration(*(states_seconds(states, n_kept, s) / 3600 for s in SHARES))]
            lines.append([*line, gib(of_a_pair * N_ROWS)])
    return table(
        [
            "", "reference, 8 GPUs", "64", "512", "pairs whose states are kept, at most", "time for these, one GPU",
            f"GiB, states of {N_ROWS:,} pairs",
        ],
        lines,
    )  # fmt: skip


def checkpoint_table() -> str:
    """What a checkpoint comes to, and the part of a run that is spent on it."""
    lines: list[list[str]] = []
    for shape in SHAPES:
        for method in Method:
            run = chosen(shape, method, HH, 64)
            if run is None:
                raise ValueError(f"{shape.name}, {method.value} does not fit 64 GPUs")
            saving = saving_seconds(run)
            between = seconds_between(saving)
            training = [N_ROWS / rate(run, 64, share) for share in SHARES]
            saves = [n_saves(seconds, saving) for seconds in training]
            parts = (n * saving / (n * saving + t) for n, t in zip(saves, training, strict=True))
            saved = (2.0 if method is Method.FULL else 4.0) * run.trained
            lines.append([
                f"{shape.name}, {method.value}", gib(checkpoint_bytes(run)), brief(saving), brief(between),
                f"{saving / (saving + between):.1%}", " / ".join(map(str, saves)), " / ".join(f"{x:.0%}" for x in parts),
                f"{checkpoint_bytes(run) / NCCL_LIMIT_S / 1e9:.2g}", gib(saved),
            ])  # fmt: skip
    return table(
        [
            "", "checkpoint, GiB", "seconds to gather and write", "seconds between two", "part of a long run",
            f"saves in {N_ROWS:,} pairs", "their part", "GB/s that write it in 10 minutes", "model as saved, GiB",
        ],
        lines,
    )  # fmt: skip


def tables() -> dict[str, str]:
    """Return the tables of the page by name."""
    return {
        "sizes": held_table(),
        "loading": loading_table(),
        **{f"memory-{s.name.split()[-1]}": memory_table(s) for s in SHAPES},
        "objectives": objective_table(),
        **{f"work-{s.name.split()[-1]}": work_table(s) for s in SHAPES},
        "traffic": traffic_table(),
        **{f"hours-{s.name.split()[-1]}-{r.name}": hours_table(s, r) for s in SHAPES for r in (HH, LONG)},
        "reference": reference_table(),
        "checkpoints": checkpoint_table(),
    }


def marked(name: str, text: str) -> str:
    """Return a table between its markers."""
    return f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"


def filled(page: str, made: Mapping[str, str]) -> str:
    """Return a page with each table put between its markers."""
    for name, text in made.items():
        before, _, rest = page.partition(f"<!-- {name} -->")
        _, found, after = rest.partition(f"<!-- end of {name} -->")
        page = before + marked(name, text) + after if found else page
    return page


def print_or_write(made: Mapping[str, str]) -> None:
    """Print tables, or write them into the page that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path, help="a page whose markers say where the tables belong")
    page: Path | None = parser.parse_args().write
    if page:
        page.write_text(filled(page.read_text(encoding="utf-8"), made), encoding="utf-8")
        return
    print("\n\n".join(marked(name, text) for name, text in made.items()))


if __name__ == "__main__":
    print_or_write(tables())
