"""Between two models: measured at each point, kept where it is asked for."""

import json

import pytest
from command_line import accord
from opposed import MINE

from accord.errors import SettingsError
from accord.models.load import load_model
from accord.recipes.online_run import OnlineAsked, run_online
from accord.recipes.settings import TrainingSettings
from accord.recipes.soup_run import SoupAsked, run_soup
from accord.types import Silent


@pytest.fixture
def two(tmp_path, tiny_folder):
    """Two models that were trained for opposite rewards, prompts, and the rewards' names."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"where is the {w}?"}) + "\n" for w in ("harbour", "water", "system", "user"))
    )
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    rewards = (f"{mine}:odd", f"{mine}:even")
    settings = TrainingSettings(model=str(tiny_folder), precision="fp32", rank=4, learning_rate=0.1, rows_per_step=4)
    runs = []
    for name in rewards:
        out = tmp_path / name.rsplit(":", 1)[-1]
        asked = OnlineAsked(rewards=(name,), steps=25, prompts_per_step=4, group=8, max_new_tokens=8, kl=0.0)
        run_online("rloo", prompts, out, asked, settings, Silent())
        runs.append(str(out))
    return (runs[0], runs[1]), prompts, rewards


def test_the_points_lie_between_the_ends_and_one_is_kept(two, tmp_path):
    models, prompts, rewards = two
    out = tmp_path / "soup"
    asked = SoupAsked(models, rewards, points=3, max_new_tokens=8, precision="fp32")
    facts, points = run_soup(prompts, out, asked, Silent())
    assert [p.share for p in points] == [0, 0.5, 1]
    odd = [p.first.value for p in points]
    assert odd[0] > odd[1] > odd[2]
    for p in points:
        assert p.first.n == 4
        assert p.first.value + p.second.value == pytest.approx(1)
    assert "The trade-off" in (out / "report.html").read_text()
    assert "model" not in facts
    # The point is picked after it was measured; nothing is measured again.
    before = (out / "answers" / "0.500.jsonl").stat().st_mtime_ns
    facts, again = run_soup(prompts, out, SoupAsked(models, rewards, 3, 0.5, 8, precision="fp32"), Silent())
    assert again == points
    assert (out / "answers" / "0.500.jsonl").stat().st_mtime_ns == before
    load_model(facts["model"])


def test_one_reward_is_no_trade(two, tmp_path):
    models, prompts, rewards = two
    with pytest.raises(SettingsError, match="trades one for another"):
        run_soup(prompts, tmp_path / "soup", SoupAsked(models, (rewards[0], rewards[0])), Silent())
    done = accord(
        "train",
        "soup",
        models[0],
        "--prompts",
        prompts,
        "--out",
        tmp_path / "s",
        "--reward",
        rewards[0],
        "--reward",
        rewards[1],
    )
    assert done.returncode == 2
    assert "1 models; a soup is made of two" in done.stderr
