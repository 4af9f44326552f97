"""The lines that say how far training has come."""

import dataclasses

import pytest

import common.training.progress
from common.recipe import recipe_of, with_recipe
from common.training.history import Epoch
from common.training.progress import _layout, epoch_progress
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


def test_time_left_reckons_with_epochs_made_here_not_with_a_checkpoints(monkeypatch, capsys):
    settings, now = dataclasses.replace(DEFAULTS, epoch=20), 0
    monkeypatch.setattr(common.training.progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(common.training.progress, "SECONDS_BETWEEN_LINES", 0)
    done = [Epoch(number, 1e-3, 0.5, 0.9, 0.4, 0.95, 30.0) for number in range(1, 11)]
    with epoch_progress("iteration 1/1", settings, recipe_of(settings), done) as show:
        now += 10
        show(Epoch(11, 1e-3, 0.5, 0.9, 0.4, 0.95, 10.0))
    resumed, latest = capsys.readouterr().err.splitlines()[-2:]
    assert resumed.endswith(
        "epoch 10/20, val acc 95.00 %, loss 0.5000, val loss 0.4000, at most 05:00 left"
    )
    assert latest.endswith("at most 01:30 left")


EPOCH = Epoch(12, 1e-3, 0.1234, 0.9, 0.2345, 0.95, 10.0)
LOSSES = "loss 0.1234, val loss 0.2345"


@pytest.mark.parametrize(
    ("columns", "kept", "lost"),
    [
        (140, ["epoch 12/200", "val acc 95.00 %", LOSSES, "{bar}", "{remaining}"], []),
        (100, ["epoch 12/200", "val acc 95.00 %", LOSSES, "{remaining}"], ["{bar}"]),
        (80, ["epoch 12/200", "val acc 95.00 %", LOSSES], ["{bar}", "{remaining}"]),
        (60, ["iteration 1/3", "epoch 12/200", LOSSES], ["{bar}", "val acc"]),
        (52, ["iteration 1/3", "12/200", LOSSES], ["{bar}", "epoch"]),
    ],
)
def test_a_narrow_terminal_keeps_the_losses_longest(columns, kept, lost):
    layout, text = _layout("iteration 1/3", EPOCH, 200, columns)
    line = layout.replace("{desc}", text)
    assert all(word in line for word in kept)
    assert not any(word in line for word in lost)
    shown = line.replace("{bar}", "").replace("{percentage:3.0f}", "100")
    assert len(shown.replace("{remaining}", "00:00:00")) < columns


def test_a_line_is_never_longer_than_the_terminal():
    for columns in range(2, 150):
        assert len(_layout("iteration 1/3", EPOCH, 200, columns)[1]) < columns


def test_a_terminal_of_60_columns_shows_the_losses(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    settings = dataclasses.replace(DEFAULTS, epoch=20)
    with epoch_progress("iteration 1/3", settings, recipe_of(settings)) as show:
        for number in range(1, 13):
            show(dataclasses.replace(EPOCH, epoch=number))
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "epoch 12/20" in last
    assert LOSSES in last
    assert len(last) < 60
