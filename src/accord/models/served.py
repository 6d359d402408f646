"""Rollouts from vLLM servers: the model that learns is sent to them as an adapter, version by version, and asked by token ids.

What is served is the base that adapters are trained on, by vLLM as it comes, started with `--enable-lora --max-lora-rank R
--logprobs-mode processed_logprobs` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must be able to read the folder that adapters are
written to. A version has a name of its own, so that no answer is taken from another one; the one before is unloaded for it.

Left out: whole weights, which no server takes without a restart.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from accord.errors import ModelError
from accord.models.asking import AT_ONCE, FailedError, authorisation, client_of, refuse_failure, tried
from accord.models.openai import KEY_VARIABLE, stable_seed
from accord.models.rollout import Rollout
from accord.models.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Servers:
    """vLLM servers of one base, `model` to them; `urls` end in /v1. Rows go to them in turn. A request may take `timeout_s`."""

    model: str
    urls: tuple[str, ...]
    timeout_s: float = 600.0

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        end_ids: frozenset[int],
        sampling: Sampling,
        name: str = "",
    ) -> list[Rollout]:
        """As `rollout.generate`, by the adapter `name` (empty: the base). A row's seed comes from (seed, key).

        Raises:
            ModelError: a server does not answer, in time, or with what was asked for; it is named.
        """
        bodies = [
            {
                "model": name or self.model,
                "prompt": list(prompt),
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
                "stop": list(sampling.stop),
                "stop_token_ids": sorted(end_ids),
                "seed": stable_seed(sampling.seed, key),
                "logprobs": 0,
                "return_token_ids": True,
            }
            for prompt, key in zip(prompts, keys, strict=True)
        ]
        return asyncio.run(self._ask_all(bodies))

    def logps(self, ids: Sequence[int], name: str = "") -> dict[str, list[float]]:
        """Return, by server, the log-probability of each of `ids` but the first, given those before it.

        Raises:
            ModelError: as `generate`.
        """
        body = {
            "model": name or self.model,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
        }
        found = asyncio.run(self._everywhere("POST", "completions", body))
        return {url: _prompt_logps(answer, ids, url) for url, answer in found.items()}

    def load(self, name: str, folder: Path) -> None:
        """Have every server load the adapter of a folder.

        Raises:
            ModelError: as `generate`; the server's own words say why.
        """
        asyncio.run(self._everywhere("POST", "load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}))

    def unload(self, prefix: str) -> None:
        """Have every server forget the adapters whose names begin so.

        Raises:
            ModelError: as `generate`.
        """
        asyncio.run(self._unload(prefix))

    async def _ask_all(self, bodies: Sequence[dict[str, Any]]) -> list[Rollout]:
        places = asyncio.Semaphore(AT_ONCE)
        async with client_of(authorisation(KEY_VARIABLE)) as client:

            async def ask(url: str, body: dict[str, Any]) -> Rollout:
                async with places:
                    return _rollout(await self._send(client, "POST", url, "completions", body), url)

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(ask(url, body))
                        for url, body in zip(itertools.cycle(self.urls), bodies, strict=False)
                    ]
            except* ModelError as errors:
                # One server that is down fails every row: one of them says it.
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _unload(self, prefix: str) -> None:
        found = await self._everywhere("GET", "models", None)
        async with client_of(authorisation(KEY_VARIABLE)) as client:
            for url, answer in found.items():
                for name in (str(row["id"]) for row in answer["data"]):
                    if name.startswith(prefix):
                        await self._send(client, "POST", url, "unload_lora_adapter", {"lora_name": name})

    async def _everywhere(self, verb: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        async with client_of(authorisation(KEY_VARIABLE)) as client:
            return {url: await self._send(client, verb, url, path, body) for url in dict.fromkeys(self.urls)}

    async def _send(
        self, client: httpx.AsyncClient, verb: str, url: str, path: str, body: dict[str, Any] | None
    ) -> Any:
        """Return what a server answers: JSON, or text where it is none."""

        async def ask() -> Any:
            response = await client.request(verb, f"{url}/{path}", json=body)
            refuse_failure(response)
            try:
                return response.json()
            except ValueError:
                return response.text

        try:
            return await tried(ask, self.timeout_s, random.Random(), patient=False)
        except FailedError as error:
            raise ModelError(f"{url}: '{path}' failed ({error}); {_advice(path)}") from None


def _advice(path: str) -> str:
    if path.endswith("lora_adapter"):
        return (
            "start vLLM with --enable-lora, --max-lora-rank at least the adapter's, and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it can read the run's folder"
        )
    return "check that vLLM serves this model there"


def _rollout(answer: Any, url: str) -> Rollout:
    try:
        choice = answer["choices"][0]
        ids = tuple(int(id) for id in choice["token_ids"])
        logps = tuple(float(logp) for logp in choice["logprobs"]["token_logprobs"])
        truncated = choice["finish_reason"] == "length"
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelError(
            f"{url}: an answer has no token ids or log-probabilities; expected vLLM 0.10 or newer at this address"
        ) from None
    if len(ids) != len(logps) or not ids or not all(map(math.isfinite, logps)):
        raise ModelError(
            f"{url}: an answer has {len(ids)} tokens and {len(logps)} log-probabilities; expected a finite one for each"
        )
    return Rollout(ids, logps, truncated)


def _prompt_logps(answer: Any, ids: Sequence[int], url: str) -> list[float]:
    try:
        rows = answer["choices"][0]["prompt_logprobs"]
        return [float(row[str(id)]["logprob"]) for id, row in zip(ids[1:], rows[1:], strict=True)]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelError(f"{url}: the prompt's log-probabilities are missing; expected vLLM at this address") from None
