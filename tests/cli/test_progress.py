from accord.cli.progress import PlainProgress, TerminalProgress


class Clock:
    """Says the time that it was set to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_rate_of_a_resumed_stage_is_of_this_process_by_hand(capsys):
    """400 of 1000 steps are there; 60 more in 120 s are 0.5 a second, and the other 540 take 1080 s."""
    clock = Clock()
    progress = PlainProgress(clock)
    progress.start("SFT", 1000, "steps", 400)
    clock.now += 60
    progress.advance(0)  # nothing was done yet, so that there is no rate
    clock.now += 60
    progress.advance(60)
    progress.finish()
    assert capsys.readouterr().err.splitlines() == [
        "SFT: 400/1000 steps",
        "SFT: 460/1000 steps, 0.5 steps/s, 1080 s left ",
        "SFT: done, 460 steps, 60 of them now, in 120 s",
    ]


def test_a_stage_from_its_beginning_by_hand(capsys):
    clock = Clock()
    progress = PlainProgress(clock)
    progress.start("SFT", 100, "steps")
    clock.now += 20
    progress.advance(10, "loss 1.0")
    progress.finish("at last")
    assert capsys.readouterr().err.splitlines() == [
        "SFT: 0/100 steps",
        "SFT: 10/100 steps, 0.5 steps/s, 180 s left loss 1.0",
        "SFT: done, 10 steps in 20 s at last",
    ]


def test_a_bar_begins_where_the_stage_goes_on(capsys):
    clock = Clock()
    progress = TerminalProgress(clock)
    progress.start("SFT", 1000, "steps", 400)
    clock.now += 120
    progress.advance(60)
    (task,) = progress.bar.tasks
    assert (task.completed, task.total, task.fields["rate"]) == (460, 1000, "0.5 steps/s")
    progress.finish()
    assert "460 steps, 60 of them now, in 120 s" in capsys.readouterr().err
