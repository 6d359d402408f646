"""What a recipe would cost, with numbers worked by hand.

Of 100 weights in one layer of width 2 and 10 in the head, a prompt of 3 tokens and written answers of 2, sampled ones of 4:

    learned, 1 answer of 2      forward 2 (100 x 5 + 10 x 2) = 1040, twice; attention 4 x 2 x (6 + 6 + 3) = 120, three times: 2440
    compared, 2 of 2, no head   1400, twice; 4 x 2 x (6 + 9 + 9) = 192, three times: 3376
    learned, 1 of 4             1480, twice; 4 x 2 x (6 + 12 + 10) = 224, three times: 3632
    learned, 2 of 4             2360, twice; 4 x 2 x (6 + 22 + 22) = 400, three times: 5920
    answered, 2 of 4            sampled 200 x 3 + 220 x 8 = 2360; 2200 a judge, 200 x (3 + 8); 2360 a reading, 200 x 11 + 20 x 8
    answered, 1 of 4            sampled 200 x 3 + 220 x 4 = 1480; 1400 a judge
"""

from accord.models.load import load_model, skeleton_of
from accord.models.work import Sizes, sizes_of
from accord.recipes import instructgpt, llama2
from accord.recipes.cost import Operations, Rows, rows_of, told
from accord.types import Comparison, Message

ROWS = Rows(Sizes(trunk=100, head=10, adapters=0, layers=1, width=2), prompt=3, answer=2, sampled=4)


def test_parts_by_hand():
    assert ROWS.learned((2,)) == Operations(2440, 0)
    assert ROWS.compared() == Operations(3376, 0)
    assert ROWS.answered(2, judges=1) == Operations(0, 2360 + 2200)
    assert ROWS.answered(2, judges=0, readings=2) == Operations(0, 2360 + 2 * 2360)
    assert ROWS.reinforced(2, judges=1, passes=3) == Operations(3 * 5920, 2360 + 2200 + 2 * 2360)


def test_instructgpt_by_hand():
    """Five comparisons, one PPO step of two prompts with as many demonstrations beside them, in three passes."""
    settings = instructgpt.InstructSettings(
        "c", "d", sft_epochs=1, reward_epochs=2, steps=1, prompts_per_step=2, group=2, passes=3
    )
    material = instructgpt.Material((None,) * 3, (None,) * 2, ())
    training = 2440 * (5 + 2 * 3) + 3376 * 5 * 2 + 3 * 5920 * 2
    assert instructgpt.operations(settings, material, ROWS) == Operations(training, (2360 + 2 * 2200 + 2 * 2360) * 2)


def test_llama_2_by_hand():
    """Five comparisons; two rounds of two prompts in rejection sampling, two in PPO, and one that is distilled."""
    settings = llama2.LlamaSettings(
        *"abcd",
        rounds=2,
        rejection_steps=1,
        steps=1,
        prompts_per_step=2,
        group=2,
        passes=3,
        max_new_tokens=4,
        n_distilled=1,
    )
    material = llama2.Material({"safety": (None,) * 2, "helpfulness": (None,) * 3}, {})
    training = 5 * 3376 + 2 * (2 * 3632 + 2 * 3 * 5920 + 3632)
    rejection, ppo = 2360 + 2 * 2200, 2360 + 2 * 2200 + 2 * 2360
    sampling = 2 * (2 * rejection + 2 * ppo + 2 * (1480 + 1400))
    assert llama2.operations(settings, material, ROWS) == Operations(training, sampling)


def test_the_line():
    """2.4e10 at 0.4 GFLOP/s and 1.5e10 at 0.25 GFLOP/s are a minute each."""
    line = told(Operations(2.4e10, 1.5e10), peak=1e9)
    assert line.startswith("about 3.9e+10 operations; some 2.0 minutes here, if training reaches 40% and sampling and ")
    assert "scoring 25% of the matrix peak (1 GFLOP/s)" in line
    assert "some 2.0 hours here" in told(Operations(2.4e10 * 60, 1.5e10 * 60), peak=1e9)


def test_sizes_and_lengths_are_the_models_without_its_weights(tiny_folder):
    prompt = (Message("user", "what is the water?"),)
    rows = [Comparison(f"{i}", prompt, "the harbour " * n, "no", "f", "train") for i, n in enumerate((2, 4))]
    loaded = load_model(str(tiny_folder))
    found = rows_of(str(tiny_folder), rows, 8)
    assert found.sizes == sizes_of(loaded.model)
    assert next(skeleton_of(str(tiny_folder)).parameters()).is_meta
    assert (found.sampled, found.sizes.adapters) == (8, 0)
    assert found.prompt > found.answer > 2
