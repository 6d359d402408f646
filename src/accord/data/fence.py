"""The lineage fence: nothing that a model is verified with may stand in what it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from accord.data.near_duplicates import nearest, normalise
from accord.data.records import as_text
from accord.errors import DataError
from accord.types import Prompt

_SHOWN = 5
# A verify prompt of this many words or more inside a training prompt is a dressed copy; a shorter one may be a phrase.
_FEWEST_WORDS = 6


def assert_no_leak(train: Sequence[Prompt], verify: Sequence[Prompt], threshold: float = 0.8) -> None:
    """Return only if no verify prompt is in `train`: by id, family, split, near-duplicate text, or word for word.

    Raises:
        DataError: one message with every way in which a prompt leaks, how many do, and the first of them.
    """
    leaks: dict[str, list[str]] = {}
    verify_ids = {prompt.id for prompt in verify}
    verify_families = {prompt.family for prompt in verify}
    for prompt in train:
        if prompt.split == "verify":
            leaks.setdefault("training rows whose split is verify", []).append(prompt.id)
        if prompt.id in verify_ids:
            leaks.setdefault("ids in both sets", []).append(prompt.id)
    shared_families = sorted({prompt.family for prompt in train} & verify_families)
    if shared_families:
        leaks["families in both sets"] = shared_families
    outside = [f"{prompt.id} ({prompt.split})" for prompt in verify if prompt.split != "verify"]
    if outside:
        leaks["verify rows whose split is another"] = outside
    alike = nearest(train, verify, threshold)
    if alike:
        leaks["training prompts that nearly repeat a verify prompt"] = [
            f"{pair.a} ~ {pair.b} ({pair.similarity:.2f})" for pair in alike
        ]
    inside = _inside(train, verify)
    if inside:
        leaks["training prompts that hold a verify prompt word for word"] = [f"{a} holds {b}" for a, b in inside]
    if leaks:
        listed = "\n".join(f"  {len(names)} {what}: {_some(names)}" for what, names in leaks.items())
        raise DataError(
            "verify prompts leak into training, so nothing measured on them would be fresh:\n"
            f"{listed}\nremove these rows from the training set, or give them another split and family"
        )


def why_sealed(prompts: Sequence[Prompt], verify: Sequence[Prompt], threshold: float = 0.8) -> dict[str, str]:
    """Return why prompts may not be trained on, by id: their split, or a verify prompt whose family or words they share.

    The ids are those of `prompts` alone; that of a verify prompt may be anything.
    """
    families = {prompt.family for prompt in verify if prompt.family}
    why = {a: f"holds the verify prompt {b}" for a, b in _inside(prompts, verify)}
    why |= {
        p.a: f"nearly repeats the verify prompt {p.b} ({p.similarity:.2f})" for p in nearest(prompts, verify, threshold)
    }
    why |= {p.id: f"is of the verify family {p.family}" for p in prompts if p.family in families}
    return why | {p.id: "is of the verify split" for p in prompts if p.split == "verify"}


def _inside(train: Sequence[Prompt], verify: Sequence[Prompt]) -> list[tuple[str, str]]:
    """Return the ids of training prompts that hold a verify prompt, each with that one's."""
    needles = [(prompt.id, f" {normalise(as_text(prompt.messages))} ") for prompt in verify]
    needles = [(id, text) for id, text in needles if len(text.split()) >= _FEWEST_WORDS]
    found = []
    for prompt in train:
        hay = f" {normalise(as_text(prompt.messages))} "
        found += [(prompt.id, id) for id, text in needles if len(text) < len(hay) and text in hay]
    return found


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
