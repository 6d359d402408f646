"""Reward and cost models: a causal model's layers under a head that gives one number an answer.

On disk they are what `AutoModelForSequenceClassification` reads and writes: a whole model, or a PEFT adapter with the head beside
it. An answer's number is read at its last token, which is known by where it stands. The ecosystem finds that place by the
padding token's id instead, so that what is saved names one with which no answer ends.

Shapes: R rows, K answers a row, A answers, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from accord.errors import ModelError
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, base_of, fingerprint, load_model, load_tokenizer, quiet_loading, resolve
from accord.models.precision import QUANTISED, Precision, choose_dtype, pick_device
from accord.models.sharing import batches, lay_out
from accord.models.tree import FORWARD_TOKENS, Tree, TreeBatch, last_states

SCORE = "score"


def with_score_head(loaded: LoadedModel) -> LoadedModel:
    """Return the same layers (shared, not copied) under a new head that says 0 of everything; the head is fp32."""
    causal: Any = loaded.model
    config = copy.deepcopy(causal.config)
    config.num_labels = 1
    config.pad_token_id = _padding_id(loaded.tokenizer)
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(config)
    if not isinstance(getattr(model, SCORE, None), nn.Linear):
        raise ModelError(f"transformers has no model with a '{SCORE}' head for '{loaded.name}' ({config.model_type})")
    setattr(model, model.base_model_prefix, causal.base_model)
    head = nn.Linear(model.score.in_features, 1, bias=False, device=loaded.device)
    nn.init.zeros_(head.weight)
    model.score = head.requires_grad_(False)
    return replace(loaded, model=model.eval())


def load_reward_model(name: str, precision: Precision = "auto") -> LoadedModel:
    """Load a reward model by local folder (whole or PEFT adapter), run folder, or hub id; its head in fp32.

    Raises:
        ModelError: nothing by that name can be loaded, it would be quantised, or it has no head: none is ever invented.
    """
    if precision in QUANTISED:
        raise ModelError(
            f"a reward model is loaded as auto, fp32 or bf16, not {precision}: its base alone can be quantised"
        )
    folder = Path(resolve(name))
    head = _head_of(folder)
    if (folder / "adapter_config.json").exists():
        if head is None:
            raise _headless(name)
        loaded = with_score_head(load_model(base_of(folder), precision))
        merged = PeftModel.from_pretrained(loaded.model, folder).merge_and_unload()
        merged.eval().requires_grad_(False)
        loaded = replace(
            loaded,
            model=merged,
            tokenizer=load_tokenizer(name),
            name=name,
            fingerprint=fingerprint(str(folder)),
            adapter=str(folder),
        )
    else:
        loaded = _whole(name, precision)
    if head is not None:
        with torch.no_grad():
            score_head(loaded.model).float().weight.copy_(head)
    return loaded


def _whole(name: str, precision: Precision) -> LoadedModel:
    folder, device = resolve(name), pick_device()
    try:
        with quiet_loading():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=choose_dtype(precision, device), attn_implementation="sdpa", output_loading_info=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load reward model '{name}': {str(error).strip().splitlines()[0]}") from error
    if info["missing_keys"] or not isinstance(getattr(model, SCORE, None), nn.Linear):
        raise _headless(name)
    if model.score.out_features != 1:
        raise ModelError(f"'{name}' gives {model.score.out_features} numbers an answer; a reward model gives one")
    model.to(device).eval().requires_grad_(False)
    return LoadedModel(model, load_tokenizer(name), name, folder, fingerprint(folder), device)


def _headless(name: str) -> ModelError:
    return ModelError(
        f"'{name}' holds no head that gives a score: it is no reward model, or was saved without its head; "
        "`accord train reward` makes one"
    )


def score_head(model: nn.Module) -> nn.Linear:
    """Return the head that gives the scores, of a plain or a PEFT-wrapped model: the trained copy where there is one."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    head: Any = inner.score
    copies = getattr(head, "modules_to_save", None)
    return copies["default"] if copies is not None else head  # type: ignore[no-any-return]


def end_scores(head: nn.Linear, batch: TreeBatch, hidden_BLD: Tensor) -> Tensor:
    """Return the score of each answer, in fp32. Shape [A]."""
    return F.linear(batch.ends(hidden_BLD).float(), head.weight.float()).squeeze(-1)


@torch.no_grad()
def score_answers(model: nn.Module, trees: Sequence[Tree]) -> list[Tensor]:
    """Return the scores of each row's answers, in order: shape [answers of the row], fp32."""
    scores: dict[int, Tensor] = {}
    head = score_head(model)
    for rows in batches(model, trees, range(len(trees)), FORWARD_TOKENS):
        batch = lay_out(model, [trees[i] for i in rows])
        scores_A = end_scores(head, batch, last_states(model, batch)).cpu()
        by_row = scores_A.split([len(trees[i].answers) for i in rows])
        scores |= {i: own_K.clone() for i, own_K in zip(rows, by_row, strict=True)}
    return [scores[i] for i in range(len(trees))]


def _head_of(folder: Path) -> Tensor | None:
    """Read the head from the safetensors of a folder."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                if key.split(".")[-2:] == [SCORE, "weight"]:
                    head: Tensor = file.get_tensor(key).float()
                    return head
    return None


def _padding_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    ends = ChatFormat(tokenizer).end_ids
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, *tokenizer.all_special_ids]
    return next((int(i) for i in candidates if i is not None and i not in ends), None)


def reward_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy of the tokenizer that pads with what the model takes for padding."""
    padded = copy.deepcopy(tokenizer)
    if model.config.pad_token_id is not None:
        padded.pad_token = padded.convert_ids_to_tokens(model.config.pad_token_id)
    return padded
