import asyncio
import time

import pytest

from accord.models.coalesce import Coalescer
from accord.models.completer import Request
from accord.models.load import load_model
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.types import Message


def test_what_is_awaited_together_is_done_in_one_call():
    calls = []

    def double(rows):
        calls.append(len(rows))
        time.sleep(0.01)
        return [2 * row for row in rows]

    async def main():
        together = Coalescer(double, 8)
        results = await asyncio.gather(*(together(i) for i in range(20)))
        together.close()
        return results

    assert asyncio.run(main()) == [2 * i for i in range(20)]
    assert calls == [8, 8, 4]


def test_a_failing_batch_raises_to_each_of_its_callers_and_the_next_one_runs():
    def fails_at_zero(rows):
        if 0 in rows:
            raise ValueError("zero")
        return rows

    async def main():
        together = Coalescer(fails_at_zero, 2)
        results = await asyncio.gather(*(together(i) for i in range(4)), return_exceptions=True)
        together.close()
        return results

    first, second, third, fourth = asyncio.run(main())
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert (third, fourth) == (2, 3)


@pytest.fixture(scope="module")
def starter():
    return load_model("starter")


def test_an_answer_is_the_same_alone_and_in_a_batch_and_a_prefill_is_continued(starter):
    completer = LocalCompleter(starter)
    asked = [
        Request((Message("user", text),), Sampling(12, 0.0), text, prefill)
        for text, prefill in [("What is the capital of France?", ""), ("Name a colour.", "The colour is"), ("Hi!", "")]
    ]

    async def main():
        together = await asyncio.gather(*(completer.complete(r) for r in asked))
        too_long = await completer.complete(Request((Message("user", "word " * 9000),), Sampling(12), "long"))
        logps = await completer.logps(asked[0].messages, ["Paris", "The capital of France is Paris", "zebra zebra"])
        await completer.close()
        return together, too_long, logps

    together, too_long, logps = asyncio.run(main())
    assert "Paris" in together[0].text
    assert together[1].text
    assert not together[1].text.startswith("The colour is")
    assert "window" in too_long.error
    assert not too_long.text
    assert logps[1] > logps[2]
