"""What `inspect eval --model accord/NAME` finds: the entry point `inspect_ai` of the package leads here.

Light on purpose: Inspect loads every provider's entry point, and a model is loaded only where one is asked for.
"""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi


@modelapi(name="accord")  # type: ignore[untyped-decorator]  # Inspect is read without its types
def accord() -> type[ModelAPI]:
    """Return the provider's class."""
    from accord.evals.inspect_model import AccordModel

    return AccordModel
