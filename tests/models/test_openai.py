"""The completer for OpenAI-compatible servers, against a real server on loopback that fails in every way."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from openai_server import FAILURES, Reply, Server

from accord.errors import ModelError
from accord.models.asking import AT_ONCE, RETRIES
from accord.models.completer import Ability, Completion, Request
from accord.models.openai import OpenAICompleter, error_in_text
from accord.models.opening import open_completer
from accord.models.sampling import Sampling
from accord.types import Message

LASTING = ("bad-request",)  # what no second try can mend
SLOW = ("slow", "trickle")


def patience_s(failure: str) -> float:
    """Short only where it is to run out: a busy machine answers late."""
    return 0.5 if failure in SLOW else 60.0


def asked(text: str = "Hi!", prefill: str = "", key: str = "k") -> Request:
    return Request((Message("user", text),), Sampling(8, 0.7, 3), key, prefill)


def complete(url: str, *requests: Request, waits: list[float] | None = None, **options) -> list[Completion]:
    """Ask all at once, without waiting between tries; the waits asked for are put in `waits`."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    async def main() -> list[Completion]:
        completer = OpenAICompleter("m", url, rng=random.Random(0), sleep=sleep, **options)
        try:
            return await asyncio.gather(*(completer.complete(r) for r in requests))
        finally:
            await completer.close()

    return asyncio.run(main())


def test_an_answer_with_its_tokens_its_end_and_what_was_sent():
    with Server(lambda r: Reply("Hello to you", "length" if "long" in r.last else "stop")) as server:
        short, long = complete(server.url, asked(), asked("long"))
    assert short == Completion("Hello to you", 3, truncated=False)
    assert long.truncated
    body = next(r.body for r in server.requests if r.last == "Hi!")
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 8, 0.7)
    assert body["messages"] == [{"role": "user", "content": "Hi!"}]


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_ends_in_an_error_with_its_cause_once_the_tries_are_spent(failure):
    with Server(lambda _: failure) as server:
        (completion,) = complete(server.url, asked(), timeout_s=patience_s(failure))
    assert FAILURES[failure] in completion.error
    assert not completion.text
    assert len(server.requests) == (1 if failure in LASTING else RETRIES + 1)


@pytest.mark.parametrize("failure", [f for f in FAILURES if f not in LASTING])
def test_a_failure_that_passes_is_no_failure(failure):
    with Server(lambda r: failure if r.number == 1 else Reply("There.")) as server:
        (completion,) = complete(server.url, asked(), timeout_s=patience_s(failure))
    assert completion == Completion("There.", 1)
    assert len(server.requests) == 2 or failure in SLOW


def test_nobody_listens():
    (completion,) = complete("http://127.0.0.1:9/v1", asked())
    assert completion.error == "no connection"


@pytest.mark.parametrize("url", ["http://[::1/v1", "ftp://127.0.0.1/v1"])
def test_an_impossible_address_is_an_error_at_once(url):
    waits: list[float] = []
    (completion,) = complete(url, asked(), waits=waits)
    assert completion.error
    assert not waits


def test_waits_double_with_jitter_and_honour_retry_after():
    """Full jitter: try k waits between 0 and 0.5 * 2^k seconds; a server that asks for 7 is given 7 and the jitter."""
    waits: list[float] = []
    with Server(lambda _: "http-500") as server:
        complete(server.url, asked(), waits=waits)
    assert len(waits) == RETRIES
    assert all(0 <= wait <= 0.5 * 2**k for k, wait in enumerate(waits))
    assert len(set(waits)) == RETRIES
    waits.clear()
    with Server(lambda _: "rate-limit", retry_after="7") as server:
        complete(server.url, asked(), waits=waits)
    assert all(7 <= wait <= 7 + 0.5 * 2**k for k, wait in enumerate(waits))


def test_redteam_03_an_error_as_text_is_told_from_an_answer_that_begins_like_one():
    for text in (
        "[ERROR] upstream timeout",
        "Error: 503 Service Unavailable",
        "ERROR: rate limit exceeded, retry later",
    ):
        assert error_in_text(text) == text
    for text in (
        "[ERROR] I cannot do that, Dave.",
        "[ERROR] upstream timeout\nThat is what you will see. To fix it, raise the limit.",
        "An [ERROR] upstream timeout means that the server behind it was slow.",
        "Errors such as a timeout are common.",
        "Error: " + "a timeout is " * 30,
        "",
    ):
        assert error_in_text(text) == ""
    with Server(lambda _: Reply("[ERROR] I cannot do that, Dave.")) as server:
        (completion,) = complete(server.url, asked())
    assert (completion.text, completion.error) == ("[ERROR] I cannot do that, Dave.", "")


def test_null_that_ended_normally_is_an_empty_answer_and_a_refusal_beside_it_is_the_answer():
    with Server(lambda r: Reply(None, message={"refusal": "I won't."} if r.last == "bad" else {})) as server:
        empty, refused = complete(server.url, asked(), asked("bad"))
    assert empty == Completion("")
    assert refused.text == "I won't."
    with Server(lambda _: Reply(None, "content_filter")) as server:
        (withheld,) = complete(server.url, asked())
    assert "content filter" in withheld.error


def test_half_a_surrogate_pair_is_sent_and_comes_back():
    with Server(lambda r: Reply(r.last)) as server:
        (completion,) = complete(server.url, asked("half \ud83d"))
    assert completion.text == "half \ud83d"


def test_200_are_held_open_at_once():
    with Server(lambda r: Reply(r.last, after_s=0.5)) as server:
        began = time.monotonic()
        completions = complete(server.url, *(asked(f"say {i}") for i in range(AT_ONCE)))
        seconds = time.monotonic() - began
    assert [c.text for c in completions] == [f"say {i}" for i in range(AT_ONCE)]
    assert server.most_at_once >= 200
    assert seconds < 100  # one after the other it would be 128


def test_the_key_comes_from_the_environment_and_the_seed_from_the_row(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with Server(lambda _: Reply("x")) as server:
        complete(server.url, asked(key="a"), asked(key="a"), asked(key="b"), key_variable="MY_KEY")
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer secret"}
    seeds = [r.body["seed"] for r in server.requests]
    assert len(set(seeds)) == 2
    monkeypatch.delenv("MY_KEY")
    with Server(lambda _: Reply("x")) as server:
        complete(server.url, asked(), key_variable="MY_KEY")
    assert "authorization" not in server.requests[0].headers


def test_a_server_that_is_vllm_continues_a_prefill_and_another_does_not_claim_to():
    async def main(url: str) -> Completion:
        completer = open_completer(f"openai:m@{url}")
        completion = await completer.complete(asked(prefill="Sure, "))
        abilities = completer.abilities
        with pytest.raises(ModelError, match="log-probabilities"):
            await completer.logps((), ())
        await completer.close()
        return abilities, completion

    with Server(lambda _: Reply("and more"), owned_by="vllm") as server:
        abilities, completion = asyncio.run(main(server.url))
    assert abilities == {Ability.PREFILL}
    assert completion.text == "and more"
    body = server.requests[0].body
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure, "}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    with Server(lambda _: Reply("x")) as server:
        assert asyncio.run(main(server.url))[0] == frozenset()


def test_names_that_name_no_server():
    for name in ("openai:m", "openai:@http://x", "openai:m@localhost:8000"):
        with pytest.raises(ModelError, match="expected openai:NAME@URL"):
            open_completer(name)
