"""The model that learns on vLLM servers: a version is sent as an adapter, and asked once its log-probabilities have arrived."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from accord.errors import ModelError
from accord.models.rollout import Rollout
from accord.models.sampling import Sampling
from accord.models.served import Servers
from accord.models.tree import Tree
from accord.runs.atomic import digest
from accord.train.learner import Learner
from accord.train.logps import said_by
from accord.train.parallel import gather, is_main
from accord.train.states import NOTHING_FROZEN

# Mean distance of a token's log-probability, in nats: two engines in bf16 are some hundredths apart, another model far more.
MOST_APART = 0.1
# Below this an adapter cannot be told from none.
TOO_NEAR = 0.02


@dataclass(slots=True)
class Served:
    """Servers that answer for the model that learns.

    `save` writes its adapter into a folder, `folder` is where, and `canary` is a text whose log-probabilities are compared.
    """

    servers: Servers
    learner: Learner
    save: Callable[[Path], None]
    folder: Path
    canary: Sequence[int]
    version: int | None = None
    # What the model without adapter says of the canary: the same throughout a run.
    without: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the version that was sent last."""
        return self._name(self.version)

    def generate(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[str], end_ids: frozenset[int], sampling: Sampling
    ) -> list[Rollout]:
        """Sample from the version that was sent last."""
        return self.servers.generate(prompts, keys, end_ids, sampling, self.name)

    def send(self, version: int) -> None:
        """Have all servers load the model as it is now, unless it is there; unload the version before.

        Raises:
            ModelError: a server cannot load it, or answers as another model would.
        """
        if version == self.version:
            return
        name = self._name(version)
        target = self.folder / name
        failed = self._on_main(self._forget)
        if not failed:
            # A step of all processes: where weights are spread they bring them together.
            self.save(target)
            failed = self._on_main(lambda: self.servers.load(name, target)) or self._not_arrived(name)
        failed = gather(failed)[0]
        if failed:
            raise ModelError(failed)
        self.version = version

    def close(self) -> None:
        """Unload what was sent last."""
        if is_main() and self.version is not None:
            self._forget()

    def _name(self, version: int | None) -> str:
        run = digest(str(self.folder.resolve()))[:8]
        return f"accord-{run}-{'' if version is None else version}"

    def _on_main(self, ask: Callable[[], None]) -> str:
        """Have the main process ask servers for something; return in all processes why it failed, empty where it did not."""
        failed = ""
        if is_main():
            try:
                ask()
            except ModelError as error:
                failed = str(error)
        return gather(failed)[0]

    def _forget(self) -> None:
        """Unload this run's versions, those of a process that was killed among them, and remove their files."""
        self.servers.unload(self._name(None))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _not_arrived(self, name: str) -> str:
        """Return why what is served is not the model that learns; empty where it is."""
        own = self._own_logps()
        if not self.without:
            with self.learner.reference():
                self.without = self._own_logps()
        by_server: dict[str, list[float]] = {}
        if failed := self._on_main(lambda: by_server.update(self.servers.logps(self.canary, name))):
            return failed
        for url, told in by_server.items():
            off, off_without = _apart(told, own), _apart(told, self.without)
            if off > TOO_NEAR and off_without < min(off, MOST_APART):
                return (
                    f"{url}: with the adapter '{name}' a known text has log-probabilities {off:.3f} nats a token from the model "
                    f"that learns and {off_without:.3f} from the one without adapter: the adapter has not arrived"
                )
            if off > MOST_APART:
                return (
                    f"{url}: the adapter '{name}' gives a known text log-probabilities {off:.3f} nats a token from the model "
                    f"that learns, over {MOST_APART:g}: is another base served than the one that is trained?"
                )
        return ""

    def _own_logps(self) -> list[float]:
        tree = Tree(tuple(self.canary[:1]), (tuple(self.canary[1:]),))
        said = said_by(self.learner.model, [tree], NOTHING_FROZEN, self.learner.head)
        return [float(logp) for logp in said[0].logps]


def _apart(left: Sequence[float], right: Sequence[float]) -> float:
    return fmean(abs(a - b) for a, b in zip(left, right, strict=True))
