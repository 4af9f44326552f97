"""The lines that say how far training has come."""

import dataclasses

import pytest

import common.training.progress
from common.recipe import recipe_of, with_recipe
from common.training.history import Epoch
from common.training.progress import epoch_progress
from SSRN.SSRN import DEFAULTS


@pytest.mark.parametrize(("recipe", "left"), [("paper", "00:20"), ("fast", "00:39")])
def test_time_left_reckons_with_the_size_of_patches(recipe, left, monkeypatch, capsys):
    settings = dataclasses.replace(with_recipe(DEFAULTS, recipe), epoch=4)
    now = 0
    monkeypatch.setattr(common.training.progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(common.training.progress, "SECONDS_BETWEEN_LINES", 0)
    with epoch_progress("iteration 1/1", settings, recipe_of(settings)) as show:
        for number in (1, 2):
            now += 10
            show(Epoch(number, 1e-3, 0.5, 0.9, 0.4, 0.95, 10.0))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("iteration 1/1: epoch 2/4, val acc 95.00 %")
    assert line.endswith(f"at most {left} left")
