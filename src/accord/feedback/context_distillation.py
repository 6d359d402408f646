"""Context distillation for safety: what the model says with the policy before it, learned without (Llama 2's).

Touvron et al., arXiv 2307.09288, §4.2.4: answers under a safety preprompt are safer, and on benign requests sometimes worse; they
are kept only where the safety reward model prefers them to the answer without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.data.messages import with_system
from accord.feedback.repair import whole_sentences
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, window
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.scorers.as_reward import Reward
from accord.types import Demonstration, Prompt, Transcript

NO_ROOM = "no room for an answer under the preprompt"


@dataclass(frozen=True, slots=True)
class Distilled:
    """Answers to learn, and how many prompts gave none, by why."""

    rows: tuple[Demonstration, ...]
    left_out: Mapping[str, int]


def distil(
    loaded: LoadedModel, prompts: Sequence[Prompt], preprompt: str, reward: Reward, sampling: Sampling
) -> Distilled:
    """Return, for each prompt whose answer under `preprompt` has the higher reward, that answer without the preprompt.

    Both are scored as answers to the prompt alone. An answer that was cut is kept up to its last whole sentence. A prompt that
    leaves no room for an answer under the preprompt in the model's window is left out.
    """
    chat = ChatFormat(loaded.tokenizer)
    room = window(loaded.model) - sampling.max_new_tokens
    n_asked = len(prompts)
    prompts = [p for p in prompts if len(chat.prompt(with_system(preprompt, p.messages))) <= room]
    if not prompts:
        return Distilled((), {NO_ROOM: n_asked} if n_asked else {})
    ids = [chat.prompt(p.messages) for p in prompts] + [
        chat.prompt(with_system(preprompt, p.messages)) for p in prompts
    ]
    keys = [f"{which}/{p.id}" for which in ("plain", "preprompt") for p in prompts]
    rollouts = generate(loaded.model, ids, keys, chat.end_ids, sampling)
    said = [chat.decode(r.ids).strip() for r in rollouts]
    texts = [whole_sentences(text) if r.truncated else text for r, text in zip(rollouts, said, strict=True)]
    given = reward.of(
        [Transcript(p.messages, t, p.kind, p.clause) for p, t in zip([*prompts, *prompts], texts, strict=True)]
    )
    rows: list[Demonstration] = []
    left_out: Counter[str] = Counter()
    if len(prompts) < n_asked:
        left_out[NO_ROOM] = n_asked - len(prompts)
    n = len(prompts)
    for prompt, text, plain, under in zip(prompts, texts[n:], given[:n], given[n:], strict=True):
        if plain.value is None or under.value is None:
            left_out[f"not scored: {plain.reason or under.reason}"] += 1
        elif not text:
            left_out["no whole sentence"] += 1
        elif under.value <= plain.value:
            left_out["the answer without the preprompt is worth as much"] += 1
        else:
            rows.append(Demonstration(prompt, text))
    return Distilled(tuple(rows), dict(left_out))
