import numpy as np

from accord.data.contamination import overlaps
from accord.data.examples import Example
from accord.types import Message

LONG = "please tell me in plain words how a lock on a canal lifts a narrow boat uphill today"


def row(line, prompt, *answers):
    return Example(line, f"id-{line}", (Message("user", prompt),), answers)


def found(train, evaluation, embed=None):
    return [(o.line, o.evaluated, o.how) for o in overlaps(train, evaluation, embed)]


def test_a_near_copy_is_found_by_its_letters():
    """Case, punctuation and space do not count."""
    (hit,) = found([row(3, "How do I boil an egg?"), row(4, "Why is the sky blue?")], [row(9, "how do i  boil an egg")])
    assert hit == (3, 9, "prompts 100% the same")


def test_a_run_of_13_words_counts_in_an_answer_too_and_12_do_not():
    words = LONG.split()
    thirteen, twelve = " ".join(words[2:15]), " ".join(words[2:14])
    train = [row(1, "Hello?", f"They asked: {thirteen}!"), row(2, "Well?", f"They asked: {twelve}, or so.")]
    (hit,) = found(train, [row(5, LONG)])
    assert hit == (1, 5, "a run of 13 words: 'me in plain words how …'")


def test_a_short_prompt_counts_whole_from_six_words_on():
    train = [row(1, "I mean it. So: where do swifts sleep at night, and why? Tell me all you know of it.")]
    evaluation = [row(1, "Where do swifts sleep at night?")]
    assert found(train, evaluation) == [(1, 1, "the whole prompt: 'where do swifts sleep at …'")]
    assert found(train, [row(1, "Where do swifts sleep?")]) == []
    assert found([row(1, "elsewhere do swifts sleep at nights, on and on")], evaluation) == []


def test_a_frame_that_many_rows_share_is_no_copy():
    """Ten evaluation rows hold the run: they count; eleven: it is a template. A row is told once."""
    train = [row(n, f"{LONG}: number {n}") for n in range(50)]
    frames = [
        row(n, f"{LONG} in a quite different matter of {n} other things and much more text {n * n}") for n in range(11)
    ]
    assert len(found(train, frames[:10])) == 50
    assert found(train, frames) == []


def test_meaning_is_compared_where_there_is_an_embedder():
    """Unit vectors: cosines 0.95 (above 0.9) and 0.6."""
    vectors = {"a": (1, 0), "b": (0.95, (1 - 0.95**2) ** 0.5), "c": (0.6, 0.8)}

    def embed(texts):
        return np.array([vectors[t] for t in texts], dtype=np.float32)

    train = [row(1, "b"), row(2, "c")]
    assert found(train, [row(7, "a")], embed) == [(1, 7, "meanings 0.95 alike (cosine)")]
    assert found(train, [row(7, "a")]) == []
    assert found([], [row(7, "a")], embed) == found(train, [], embed) == []


def test_prompts_without_words_have_no_meaning():
    ones = lambda texts: np.ones((len(texts), 1), dtype=np.float32)  # noqa: E731
    assert found([row(1, "..."), row(2, "")], [row(1, "?"), row(2, " ")], ones) == []


def test_the_first_way_is_told_once():
    ones = lambda texts: np.ones((len(texts), 1), dtype=np.float32)  # noqa: E731
    assert len(found([row(1, LONG, LONG)], [row(2, LONG)], ones)) == 1
