"""What a reward's numbers are divided by before they are learned from."""

import math

import pytest

from accord.errors import DataError
from accord.recipes.reward_truth import reward_deviation
from accord.train.samples import Sample, write_samples


def kept(path, rewards):
    samples = [
        Sample(prompt, f"{prompt}/{k}", 0, (1,), (-1.0,), False, "a", {"rm": value}, {}, value)
        for prompt, own in rewards.items()
        for k, value in enumerate(own)
    ]
    write_samples(path, samples)
    return path


def test_a_deviation_is_that_between_answers_to_one_prompt(tmp_path):
    """1 and 3, 5 and 5, 10 and 14: variances 2, 0 and 8, whose mean is 10 / 3; what differs between prompts counts for nothing."""
    path = kept(tmp_path / "scale.jsonl", {"a": [1.0, 3.0], "b": [5.0, 5.0], "c": [10.0, 14.0], "d": [99.0]})
    assert reward_deviation(None, tmp_path, (), 8, 0, path) == pytest.approx(math.sqrt(10 / 3))


def test_a_reward_that_tells_answers_to_no_prompt_apart_is_refused(tmp_path):
    path = kept(tmp_path / "scale.jsonl", {"a": [1.0, 1.0], "b": [5.0, 5.0]})
    with pytest.raises(DataError, match="gives the answers to each of 2 prompts the same reward"):
        reward_deviation(None, tmp_path, (), 8, 0, path)
