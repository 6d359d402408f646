"""A real HTTP server on loopback that speaks as much of vLLM's interface as rollouts need, over a real model and its adapters.

    with VLLM(loaded) as server:
        ...  # server.url is ".../v1"; server.adapters are loaded now, server.calls is what was asked for

It answers with the model that it was given, so that log-probabilities mean something; `make test-vllm` asks vLLM itself. `faults`
make it misbehave: "ignores adapters", "slow", "no token ids", "http-500".
"""

from __future__ import annotations

import copy
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from accord.models.load import LoadedModel
from accord.models.rollout import generate
from accord.models.sampling import Sampling

SLOW_S = 1.0


class VLLM:
    def __init__(self, loaded: LoadedModel, name: str = "tiny", faults: tuple[str, ...] = ()) -> None:
        self.base, self.name, self.faults = loaded.model, name, set(faults)
        self.adapters: dict[str, Any] = {}
        self.calls: list[tuple[str, Any]] = []
        self.turn = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> VLLM:
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and body; one request at a time, since a model is none for several threads."""
        with self.turn:
            self.calls.append((path, body))
            if path == "models":
                return 200, {"data": [{"id": n, "owned_by": "vllm"} for n in (self.name, *self.adapters)]}
            if path == "load_lora_adapter":
                return self._load(body)
            if path == "unload_lora_adapter":
                if body["lora_name"] not in self.adapters:
                    return 404, {"error": {"message": f"The lora adapter '{body['lora_name']}' cannot be found."}}
                del self.adapters[body["lora_name"]]
                return 200, f"Success: LoRA adapter '{body['lora_name']}' removed successfully."
            return self._complete(body)

    def _load(self, body: dict[str, Any]) -> tuple[int, Any]:
        folder = Path(body["lora_path"])
        if not (folder / "adapter_config.json").exists():
            return 404, {"error": {"message": f"No adapter found for {folder}"}}
        if body["lora_name"] in self.adapters:
            return 400, {"error": {"message": f"The lora adapter '{body['lora_name']}' has already been loaded."}}
        self.adapters[body["lora_name"]] = PeftModel.from_pretrained(copy.deepcopy(self.base), str(folder)).eval()
        return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "slow" in self.faults:
            time.sleep(SLOW_S)
        if "http-500" in self.faults:
            return 500, {"error": {"message": "engine died"}}
        if body["model"] not in (self.name, *self.adapters):
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        model = self.adapters.get(body["model"], self.base)
        if "ignores adapters" in self.faults:
            model = self.base
        if "prompt_logprobs" in body:
            ids = torch.tensor([body["prompt"]])
            with torch.no_grad():
                logps = model(ids).logits.float().log_softmax(-1)[0, :-1]
            told = [{str(i): {"logprob": float(row[i])}} for i, row in zip(body["prompt"][1:], logps, strict=True)]
            return 200, {"choices": [{"prompt_logprobs": [None, *told]}]}
        sampling = Sampling(
            body["max_tokens"], body["temperature"], body["seed"], body["top_p"], body["top_k"], body["min_p"]
        )
        (rollout,) = generate(model, [body["prompt"]], ["vllm"], frozenset(body["stop_token_ids"]), sampling)
        choice = {
            "token_ids": list(rollout.ids),
            "logprobs": {"token_logprobs": list(rollout.logps)},
            "finish_reason": "length" if rollout.truncated else "stop",
        }
        if "no token ids" in self.faults:
            choice["token_ids"] = None
        return 200, {"choices": [choice]}


def _handler(server: VLLM) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._send(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def do_GET(self) -> None:
            self._send({})

        def _send(self, body: dict[str, Any]) -> None:
            status, told = server.answer(self.path.removeprefix("/v1/"), body)
            text = told if isinstance(told, str) else json.dumps(told)
            data = text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
