"""Learning rates far too large: one line names the update, and what was good until then is kept."""

import csv
import io
import math
import re

import pytest
import torch

from tests.reliability.processes import SCRIPTS, run, said

LINE = (
    r"\S+: error: --lr {}: training diverged, the loss became NaN or infinite in update \d+ of "
    r"epoch (\d+);( the weights of epoch (\d+), the best, are kept;)? use a smaller learning rate"
    r"(?:; results so far: .*)?"
)
FAULT = "a loss that becomes NaN"
HOW = "learning rates from 300 to 1e+30: training stops and names the update"
FLAGS = [["-o", "sgd", "--lr", "1e+06"], ["--lr", "1e+30"], ["-o", "rmsprop", "--lr", "1e+30"]]


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_loss_that_is_nan_at_once(flags, toy_data, tmp_path, often, tried):
    for model in SCRIPTS[: often(1, 2)]:
        out = tmp_path / model
        assert run(model, toy_data, out, "-i", "1", *flags) == 2
        epoch, _, kept = re.fullmatch(LINE.format(re.escape(flags[-1])), said(out)[-1]).groups()
        assert (epoch, kept) == ("1", None)
        assert not list(out.glob("run_0/*"))
    tried(FAULT, HOW, often(1, 2))


def test_loss_that_is_nan_after_some_epochs(toy_data, tmp_path, often, tried):
    growing = ["-o", "adamw", "--lr", "300"]  # its weight decay then multiplies weights by -2
    for model in SCRIPTS[: often(1, 2)]:
        out = tmp_path / model
        assert run(model, toy_data, out, "-i", "1", *growing) == 2
        stopped, _, best = re.fullmatch(LINE.format(300), said(out)[-1]).groups()
        weights, history = out / "run_0" / "weights.pt", out / "run_0" / "history.csv"

        epochs = list(csv.DictReader(history.read_text("utf-8").splitlines()))
        assert len(epochs) == int(stopped) - 1 >= 1
        assert all(math.isfinite(float(epoch["train_loss"])) for epoch in epochs)
        losses = [float(epoch["validation_loss"] or "inf") for epoch in epochs]
        assert losses.index(min(losses)) == int(best) - 1

        content = (out / "run_0" / "checkpoint.pt").read_bytes()[64:]
        checkpoint = torch.load(io.BytesIO(content), weights_only=True)
        for state in (torch.load(weights, weights_only=True)["state"], checkpoint["best_weights"]):
            assert all(tensor.isfinite().all() for tensor in state.values())
        assert len(checkpoint["history"]) == len(epochs)
        used = tmp_path / f"{model}_used"
        assert run(model, toy_data, used, "--weights", str(weights), page=False) == 0
    tried(FAULT, HOW, often(1, 2))
