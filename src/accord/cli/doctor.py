"""`accord doctor`: what is installed, what the machine can do, what is missing and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil

import typer

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "gguf",
    "scipy",
    "statsmodels",
    "typer",
    "rich",
)


def doctor(json_: bool = typer.Option(False, "--json", help="Print as JSON.")) -> None:
    """Print versions, devices, number formats and the cache; for what is missing, the command that mends it."""
    import torch

    from accord import __version__
    from accord.models.cache import cache_dir
    from accord.models.embedder import INSTALL_EMBEDDER, embedder_folder
    from accord.models.kernels import has_compiler
    from accord.models.load import INSTALL_STARTER, STARTER_PACKAGE
    from accord.models.precision import has_native_bf16, pick_device
    from accord.recipes.reporting import machine_facts

    device = pick_device()
    cache = cache_dir()
    models = sorted(p.name for p in (cache / "models").glob("*") if (p / "config.json").exists())
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free / 2**30
    facts: dict[str, str] = {"accord": __version__, **machine_facts()}
    missing: list[str] = []
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "missing"
            missing.append(f"{name}: pip install {name}")
    facts["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    facts["bf16 in hardware"] = "yes" if has_native_bf16(device) else "no: fp32 is used"
    facts["C++ compiler"] = "yes" if has_compiler() else "none: training is slower; install g++"
    facts["cache"] = f"{cache} ({', '.join(models) or 'empty: the starter is converted at first use, about 20 s'})"
    facts["free disk"] = f"{free:.1f} GiB"
    if importlib.util.find_spec(STARTER_PACKAGE) is None:
        missing.append(f"starter model: {INSTALL_STARTER}")
    if embedder_folder() is None:
        missing.append(f"sentence embedder (contamination by meaning): {INSTALL_EMBEDDER}")
    if free < 4:
        missing.append("disk: a run needs about 2 GiB and the starter 0.6 GiB; free some space")
    if json_:
        print(json.dumps({"facts": facts, "missing": missing}, indent=2))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:<{width}}  {value}")
        print("nothing is missing" if not missing else "missing:\n  " + "\n  ".join(missing))
    if missing:
        raise typer.Exit(2)
