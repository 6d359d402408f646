"""What one alignment round can be asked for. Each default is written here, once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from accord.errors import SettingsError
from accord.models.adapters import AdapterKind
from accord.models.precision import QUANTISED, Precision
from accord.models.sharded import n_launched
from accord.train.offline import TrainSettings

# `full` trains every weight, each other method an adapter of its kind.
Method = Literal[AdapterKind, "full"]


# Settings that came after the first runs were made, whose manifests lack them: at the default they are not written.
_LATER: Mapping[str, Any] = {"checkpointing": False, "last_layer": -1, "rounds": 1}


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """The dials of `accord align`.

    Adapters sit on the layers from `first_layer` (-1: the upper three fifths) to `last_layer` (-1: the last). `checkpointing`
    computes each layer again in the backward pass, for less memory. `retain_tokens` are the tokens of an answer's beginning, where
    it is decided; `whole_share` is the part of the learned answers that is learned to the end. `limit` keeps the first so many
    rows of each kind, for a smoke run; the report says so. `baseline_share` is the part of the `verify` prompts that the baselines
    and the changed system prompts are measured on. Of the `rounds` each after the first attacks the model, repairs what that finds
    and trains on it.
    """

    model: str = "starter"
    policy: str = ""
    demonstrations: str = ""
    comparisons: str = ""
    method: Method = "lora"
    precision: Precision = "auto"
    first_layer: int = -1
    last_layer: int = -1
    rank: int = 8
    checkpointing: bool = False
    sft_epochs: int = 3
    sft_learning_rate: float = 3e-3
    rows_per_step: int = 8
    retain: float = 32.0
    retain_tokens: int = 6
    whole_share: float = 0.3
    weight_decay: float = 0.05
    dpo_epochs: int = 1
    dpo_learning_rate: float = 5e-5
    dpo_beta: float = 0.1
    max_new_tokens: int = 32
    baseline_share: float = 0.2
    rounds: int = 1
    limit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse(
            self,
            (
                ("rank", "at least 1", self.rank >= 1),
                ("sft_epochs", "at least 1", self.sft_epochs >= 1),
                ("dpo_epochs", "at least 0", self.dpo_epochs >= 0),
                ("sft_learning_rate", "above 0", self.sft_learning_rate > 0),
                ("dpo_learning_rate", "above 0", self.dpo_learning_rate > 0),
                ("rows_per_step", "at least 1", self.rows_per_step >= 1),
                ("retain", "at least 0", self.retain >= 0),
                ("retain_tokens", "at least 1", self.retain_tokens >= 1),
                ("whole_share", "0 to 1", 0 <= self.whole_share <= 1),
                ("max_new_tokens", "at least 1", self.max_new_tokens >= 1),
                ("baseline_share", "above 0 and at most 1", 0 < self.baseline_share <= 1),
                ("rounds", "at least 1", self.rounds >= 1),
                (
                    "rounds",
                    "1 with method full or dora, whose strength cannot be folded in",
                    self.rounds == 1 or self.method in ("lora", "rslora"),
                ),
                ("limit", "at least 0", self.limit >= 0),
                *_formats(self.method, self.precision),
            ),
        )

    def asked(self) -> dict[str, Any]:
        """Return the settings as a run's manifest keeps them."""
        return asked_of(self, _LATER)

    def refuse_as_round(self) -> None:
        """Refuse what a whole round cannot be asked for, though its first stage alone can.

        Raises:
            SettingsError: the base is quantised; the adapter is published for the base as it is, on which nothing was measured.
                Or it was launched in several processes.
        """
        refuse_several_processes()
        if self.precision in QUANTISED:
            raise SettingsError(
                f"precision {self.precision}: a round would measure the adapter on a base that its users do not load; "
                "use auto, fp32 or bf16, or `accord train`"
            )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The dials of a single training run; `first_layer` and `last_layer` as in `AlignSettings`."""

    model: str = "starter"
    method: Method = "lora"
    precision: Precision = "auto"
    first_layer: int = 0
    last_layer: int = -1
    rank: int = 16
    checkpointing: bool = False
    epochs: int = 1
    learning_rate: float = 2e-4
    rows_per_step: int = 8
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse(
            self,
            (
                ("rank", "at least 1", self.rank >= 1),
                ("epochs", "at least 1", self.epochs >= 1),
                ("learning_rate", "above 0", self.learning_rate > 0),
                ("rows_per_step", "at least 1", self.rows_per_step >= 1),
                *_formats(self.method, self.precision),
            ),
        )

    def asked(self) -> dict[str, Any]:
        """Return the settings as a run's manifest keeps them."""
        return asked_of(self, _LATER)

    def dials(self) -> TrainSettings:
        """Return those of the loop."""
        return TrainSettings(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            rows_per_step=self.rows_per_step,
            seed=self.seed + 1,
        )


class OfRuns:
    """What recipes that are made of single runs have in common. Manifests of their first runs lack the layers."""

    __slots__ = ()

    @property
    def adapters(self) -> dict[str, Any]:
        """What each of the runs trains, and on what it draws."""
        return {name: getattr(self, name) for name in ("precision", "rank", "first_layer", "last_layer", "seed")}

    def asked(self) -> dict[str, Any]:
        """Return the settings as a run's manifest keeps them."""
        return asked_of(self, {"first_layer": 0, "last_layer": -1})

    def training(self, model: str, **more: Any) -> TrainingSettings:
        """Return the settings of one of the runs."""
        return TrainingSettings(model=model, **self.adapters, **more)


def refuse_several_processes() -> None:
    """Refuse a recipe that was launched in several processes: only the training verbs share their work out.

    Raises:
        SettingsError: it was.
    """
    if n_launched() > 1:
        raise SettingsError(
            "`accord align` runs in one process; of the verbs, `accord train` can be launched in several"
        )


def asked_of(settings: Any, later: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a run's manifest keeps them: of those that came `later`, only what differs from their default."""
    return {k: v for k, v in asdict(settings).items() if k not in later or v != later[k]}


def default_learning_rate(method: str) -> float:
    """Return the step size that fits what is trained: a weight of the model itself moves far less than an adapter's."""
    return 1e-5 if method == "full" else 2e-4


def adapted_layers(text: str, method: str) -> dict[str, Any]:
    """Return the settings that `--layers` stands for; none where it was not given.

    Raises:
        SettingsError: it cannot be understood, or names some layers where every weight is trained.
    """
    if not text:
        return {}
    if method == "full" and text != "all":
        raise SettingsError(
            f"--layers {text} says where adapters sit, and --method full has none: leave out one of the two"
        )
    if text in ("all", "upper"):
        return {"first_layer": 0 if text == "all" else -1, "last_layer": -1}
    span = re.fullmatch(r"(\d+)-(\d*)", text)
    if not span or (span[2] and int(span[2]) < int(span[1])):
        raise SettingsError(f"--layers must be all, upper, a span as 22-29, or 22- for 22 and up, not '{text}'")
    return {"first_layer": int(span[1]), "last_layer": int(span[2] or -1)}


def _formats(method: str, precision: str) -> list[tuple[str, str, bool]]:
    methods, precisions = get_args(Method), get_args(Precision)
    return [
        ("method", _listed(methods), method in methods),
        ("precision", _listed(precisions), precision in precisions),
        (
            "precision",
            "'auto', 'fp32' or 'bf16' with method full, since 8- and 4-bit weights cannot be trained",
            not (method == "full" and precision in QUANTISED),
        ),
    ]


def _listed(names: Sequence[str]) -> str:
    *most, last = (f"'{name}'" for name in names)
    return f"{', '.join(most)} or {last}"


def _refuse(settings: object, rules: Sequence[tuple[str, str, bool]]) -> None:
    """Name all settings that break their rule, in one message."""
    faults = [f"{name} must be {rule}, not {getattr(settings, name)}" for name, rule, holds in rules if not holds]
    if faults:
        raise SettingsError("; ".join(faults))


def settings_from(asked: Mapping[str, Any]) -> AlignSettings:
    """Return the settings that a round's manifest holds.

    Raises:
        SettingsError: it is that of another verb.
    """
    if asked.keys() - {field.name for field in fields(AlignSettings)}:
        raise SettingsError(
            "only runs of `accord align` and `accord redteam` are resumed by name; give this run's own command again, with the "
            "same --out: it goes on where it stopped"
        )
    return AlignSettings(**dict(asked))
