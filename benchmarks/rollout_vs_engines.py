"""Rollouts in groups of 8: Accord's `generate` against transformers, CTranslate2 and vLLM on the CPU, at equal precision.

Real prompts, 8 answers each at temperature 1, at most 64 tokens and the real end of the turn; reading the prompts counts on all
sides, and so do all tokens up to the end. Each peer is tuned in its favour: transformers as in `rollout_vs_generate.py`,
CTranslate2 by its batch size, with several answers of one prompt as hypotheses of it, vLLM by being asked for all prompts at once,
8 answers each, behind its own server (`--vllm PYTHON`, the python of an environment that has it, as `make test-vllm` makes one;
left out without). The server is stopped (SIGSTOP) while others are measured.

Greedy answers of CTranslate2 are compared with ours in fp32 first. The limit is in `limits.py`. On a processor with bf16 we run in
it, and CTranslate2 in what it has there, which the result says: not all of its builds do.

Run: `python benchmarks/rollout_vs_engines.py [--quick] [--vllm .venv-vllm/bin/python]`; ACCORD_TEST_DATA names the data folder.
CTranslate2 is left out on a GPU and where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
from limits import Machine, rollout_seconds
from machine import REPEATS, MatrixPeak, bandwidth, clock, data_folder, finish, paired_ratio, processor, say
from rollout_vs_generate import MAX_PROMPT_TOKENS, SEED, Ids, choose_prompts, run_peer, tune_peer
from transformers.utils import logging as hf_logging

from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, load_model
from accord.models.precision import pick_device
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.tree import Tree
from accord.models.work import sizes_of

GROUP = 8
LEAST_RATIO, LEAST_TRANSFORMERS, LEAST_SHARE, LEAST_IDENTICAL_SHARE = 1.5, 2.0, 0.5, 0.9
READY_S = 420
# Tokens a second of one run.
Engine = Callable[[], float]


def accord(
    loaded: LoadedModel, chat: ChatFormat, prompts: Sequence[Ids], sampling: Sampling, kept: list[Tree]
) -> float:
    """Return our rate; `kept` is filled with what was sampled."""
    rows = [p for p in prompts for _ in range(GROUP)]
    began = clock(loaded.device)
    rollouts = generate(loaded.model, rows, [str(i) for i in range(len(rows))], chat.end_ids, sampling)
    seconds = clock(loaded.device) - began
    kept[:] = [Tree(p, tuple(r.ids for r in rollouts[i * GROUP : (i + 1) * GROUP])) for i, p in enumerate(prompts)]
    return sum(len(r.ids) for r in rollouts) / seconds


class CTranslate2:
    """The starter, converted, in a folder of its own."""

    def __init__(self, loaded: LoadedModel, end_ids: frozenset[int], folder: str, precision: str) -> None:
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(loaded.folder).convert(folder, force=True)
        self.tokenizer = loaded.tokenizer
        self.end = self.tokenizer.convert_ids_to_tokens(sorted(end_ids))
        self.generator = ctranslate2.Generator(
            folder, device="cpu", compute_type=precision, intra_threads=torch.get_num_threads(), inter_threads=1
        )

    def answers(self, prompts: Sequence[Ids], sampling: Sampling, group: int, batch_size: int) -> list[list[int]]:
        """Return `group` answers to each prompt, each with its end where one was drawn."""
        tokens = [self.tokenizer.convert_ids_to_tokens(list(p)) for p in prompts]
        greedy = sampling.temperature == 0
        found = self.generator.generate_batch(
            tokens,
            max_batch_size=batch_size,
            max_length=sampling.max_new_tokens,
            num_hypotheses=group,
            sampling_topk=1 if greedy else 0,
            sampling_temperature=1.0 if greedy else sampling.temperature,
            include_prompt_in_result=False,
            end_token=self.end,
            return_end_token=True,
        )
        return [list(ids) for one in found for ids in one.sequences_ids]

    def rate(self, prompts: Sequence[Ids], sampling: Sampling, batch_size: int) -> float:
        """Return tokens a second, prompts of like length together."""
        began = time.perf_counter()
        answers = self.answers(sorted(prompts, key=len), sampling, GROUP, batch_size)
        return sum(map(len, answers)) / (time.perf_counter() - began)


class VLLM:
    """A server of the starter, stopped while it is not asked."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = url, process

    def rate(self, prompts: Sequence[Ids], sampling: Sampling, end_ids: frozenset[int]) -> float:
        """Return tokens a second of all prompts at once."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            with ThreadPoolExecutor(len(prompts)) as pool, httpx.Client(timeout=3600) as client:

                def ask(numbered: tuple[int, Ids]) -> int:
                    i, prompt = numbered
                    body: dict[str, Any] = {
                        "model": "starter", "prompt": list(prompt), "n": GROUP, "max_tokens": sampling.max_new_tokens,
                        "temperature": sampling.temperature, "seed": SEED + i, "stop_token_ids": sorted(end_ids),
                    }  # fmt: skip
                    response = client.post(f"{self.url}/completions", json=body)
                    response.raise_for_status()
                    return int(response.json()["usage"]["completion_tokens"])

                began = time.perf_counter()
                n_tokens = sum(pool.map(ask, enumerate(prompts)))
                return n_tokens / (time.perf_counter() - began)
        finally:
            os.killpg(self.process.pid, signal.SIGSTOP)


@contextmanager
def served(python: str, folder: str, precision: str) -> Iterator[VLLM]:
    """Start vLLM's server, and end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(os.path.abspath(python), "-m", "vllm.entrypoints.openai.api_server", "--model", folder),
        *("--served-model-name", "starter", "--dtype", precision, "--max-model-len", "1024", "--max-num-seqs", "256"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_NO_USAGE_STATS": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as out, (Path(out) / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={**inherited, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=out,
            start_new_session=True,
        )
        try:
            _wait(port, process, Path(out) / "log")
            os.killpg(process.pid, signal.SIGSTOP)
            yield VLLM(f"http://127.0.0.1:{port}/v1", process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"vLLM did not start: {log.read_text()[-2000:]}")
        time.sleep(1)


def agree(peer: CTranslate2, prompts: Sequence[Ids], n_tokens: int) -> float:
    """Return which share of greedy answers are token for token ours, both in fp32."""
    loaded = load_model("starter", "fp32")
    chat = ChatFormat(loaded.tokenizer)
    greedy = Sampling(n_tokens, 0.0)
    ours = generate(loaded.model, prompts, [str(i) for i in range(len(prompts))], chat.end_ids, greedy)
    theirs = peer.answers(prompts, greedy, 1, len(prompts))
    return sum(list(a.ids) == b for a, b in zip(ours, theirs, strict=True)) / len(prompts)


def main() -> None:
    """Tune the peers, measure all in turn, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="4 short prompts, once: shows that it runs")
    parser.add_argument("--prompts", type=int, default=64, help="a multiple of 4")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="rows, tried for the peers"
    )
    parser.add_argument("--vllm", default="", help="a python that has vLLM")
    options = parser.parse_args()
    n_tokens, longest = 64, MAX_PROMPT_TOKENS
    if options.quick:
        options.prompts, options.repetitions, options.batch_sizes, n_tokens, longest = 4, 1, [16], 8, 64
    hf_logging.set_verbosity_error()
    device, loaded = pick_device(), load_model("starter")
    chat = ChatFormat(loaded.tokenizer)
    prompts = choose_prompts(data_folder(), chat, options.prompts, longest)
    dtype = loaded.model.dtype
    precision = str(dtype).removeprefix("torch.")
    peak, read = MatrixPeak(dtype, device, repeats=1 if options.quick else REPEATS), bandwidth(device)
    sampling = Sampling(n_tokens, 1.0, SEED)
    say(
        f"{processor(device)}; {precision}; {len(prompts)} prompts, {GROUP} answers each; {peak}; memory {read / 1e9:.1f} GB/s"
    )

    rows = [p for p in prompts for _ in range(GROUP)]
    by_length = sorted(prompts, key=len)
    n_few = min(len(prompts), max(options.batch_sizes) // GROUP)
    few = [by_length[(2 * k + 1) * len(by_length) // (2 * n_few)] for k in range(n_few)]
    some = [p for p in few for _ in range(GROUP)]
    setup, tried = tune_peer(loaded.model, some, chat.end_ids, sampling, options.batch_sizes)
    sweep = {f"transformers, {name}": rate for name, rate in tried.items()}
    kept: list[Tree] = []
    engines: dict[str, Engine] = {
        "Accord": partial(accord, loaded, chat, prompts, sampling, kept),
        f"transformers, {setup}": lambda: run_peer(loaded.model, rows, chat.end_ids, sampling, setup).rate,
    }
    with tempfile.TemporaryDirectory() as folder, _maybe(options.vllm, loaded.folder, precision) as server:
        identical = None
        compute_type = ""
        if device.type == "cpu" and importlib.util.find_spec("ctranslate2") is not None:
            import ctranslate2

            compute_type = precision if precision in ctranslate2.get_supported_compute_types("cpu") else "float32"
            identical = agree(CTranslate2(loaded, chat.end_ids, f"{folder}/fp32", "float32"), prompts[:32], n_tokens)
            say(f"CTranslate2 in fp32: {identical:.0%} of greedy answers are ours, token for token")
            converted = CTranslate2(loaded, chat.end_ids, f"{folder}/model", compute_type)
            by_size = {size: converted.rate(few, sampling, size // GROUP) for size in options.batch_sizes}
            best = max(by_size, key=by_size.__getitem__)
            sweep |= {f"CTranslate2, batch {size}": rate for size, rate in by_size.items()}
            say(f"sweep, CTranslate2, tokens/s by batch size: {by_size}")
            engines[f"CTranslate2, batch {best}"] = partial(converted.rate, prompts, sampling, best // GROUP)
        if server is not None:
            server.rate(prompts[:4], sampling, chat.end_ids)
            engines["vLLM"] = partial(server.rate, prompts, sampling, chat.end_ids)
        rates: dict[str, list[float]] = {name: [] for name in engines}
        for repetition in range(options.repetitions):
            for name in list(engines)[:: 1 if repetition % 2 == 0 else -1]:
                rates[name].append(engines[name]())
                say(f"{repetition + 1}/{options.repetitions}, {name}: {rates[name][-1]:.1f} tokens/s")
            peak.measure()
    machine = Machine(peak.best, read, torch.empty((), dtype=dtype).element_size())
    n_sampled = sum(len(a) for t in kept for a in t.answers)
    limit = n_sampled / rollout_seconds(sizes_of(loaded.model), kept, machine)
    ours = statistics.median(rates["Accord"])
    ratios = {name: paired_ratio(rates["Accord"], own) for name, own in rates.items() if name != "Accord"}
    for name, (ratio, low, high) in ratios.items():
        say(f"Accord is {ratio:.2f} x {name} [{low:.2f} to {high:.2f}]")
    say(f"limit {limit:.0f} tokens/s ({peak}, memory {read / 1e9:.1f} GB/s): Accord reaches {ours / limit:.1%}")
    others = [ratio for name, (ratio, _, _) in ratios.items() if not name.startswith("transformers")]
    finish(
        {
            "work": f"rollouts of {len(prompts)} real prompts, {GROUP} answers each of at most {n_tokens} tokens, temperature 1",
            "ours": ours,
            "unit": "tokens/s",
            "ratios": {name: list(found) for name, found in ratios.items()},
            "share_of_limit": ours / limit,
            "limit": limit,
            "runs": rates,
            "sweep": sweep,
            "processor": processor(device),
            "precision": precision,
            "quick": options.quick,
            "ctranslate2_greedy_identical": identical,
            "met": min(r for n, (r, _, _) in ratios.items() if n.startswith("transformers")) >= LEAST_TRANSFORMERS
            and ours / limit >= LEAST_SHARE
            # Without a peer to hold it against nothing is met.
            and len(others) == 2
            and all(r >= LEAST_RATIO for r in others)
            and identical is not None
            and identical >= LEAST_IDENTICAL_SHARE,
            "ctranslate2_compute_type": compute_type,
            "asked": {"transformers": LEAST_TRANSFORMERS, "others": LEAST_RATIO, "share_of_limit": LEAST_SHARE},
            "matrix_peak_gflops": peak.gflops,
            "memory_gb_s": read / 1e9,
        }
    )


@contextmanager
def _maybe(python: str, folder: str, precision: str) -> Iterator[VLLM | None]:
    """Serve where a python is given."""
    if not python:
        yield None
        return
    with served(python, folder, precision) as server:
        yield server


if __name__ == "__main__":
    main()
