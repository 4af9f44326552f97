"""The weights in the repository give what their card says, to the pixel."""

import json
import re

import numpy as np
import pytest
import torch

from A2S2KResNet import A2S2KResNet
from common.run.cli import main
from common.system.files import REPOSITORY
from common.training.weights_file import load_weights
from SSRN import SSRN

SCRIPTS = {"A2S2KResNet": A2S2KResNet, "SSRN": SSRN}
FOLDER = REPOSITORY / "weights"
CARD = (FOLDER / "README.md").read_text("utf-8")
SLOW = pytest.param("A2S2KResNet", marks=pytest.mark.slow)
SPREAD = 0.002  # of OA over seeds: see docs/results.md


def figures_of_card(name: str) -> tuple[int, int, list[float]]:
    """Pixels right, pixels tested; OA, AA and kappa in per cent."""
    (line,) = re.findall(rf"^\| `{name}_IN\.pt` .*$", CARD, re.MULTILINE)
    right, of = re.search(r"(\d+) of (\d+)", line).groups()
    return int(right), int(of), [float(number) for number in re.findall(r" (\d+\.\d\d) ", line)]


def report_of(name: str, folder, *flags: str) -> dict:
    script, out = SCRIPTS[name], folder / "out"
    words = ["-d", "IN", "--weights", str(FOLDER / f"{name}_IN.pt"), "--map", "none", *flags]
    network = getattr(script, name)
    assert main(network, script.DEFAULTS, [*words, "--device", "cpu", "--out", str(out)]) == 0
    return json.loads((out / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("name", [SLOW, "SSRN"])
def test_accuracies_in_float32_are_those_of_the_card(name, tmp_path):
    right, of, percents = figures_of_card(name)
    report = report_of(name, tmp_path, "--precision", "fp32")
    assert np.trace(report["confusion"][0]) == right
    assert np.sum(report["confusion"][0]) == of
    found = [100 * report[key][0] for key in ("oa", "aa", "kappa")]
    np.testing.assert_allclose(found, percents, atol=0.005001)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_accuracies_in_bfloat16_are_within_the_spread_over_seeds(name, tmp_path, monkeypatch):
    capabilities = {"avx512_bf16": True}  # elsewhere slow, but the same
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    right, of, _ = figures_of_card(name)
    assert abs(report_of(name, tmp_path, "--precision", "bf16")["oa"][0] - right / of) < SPREAD


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_files_are_small_and_hold_no_path_of_the_machine_they_were_made_on(name):
    path = FOLDER / f"{name}_IN.pt"
    assert path.stat().st_size < 2e6
    settings = load_weights(path).settings
    assert not [value for value in settings.values() if str(value).startswith(("/", "~"))]
    assert (settings["seed"], settings["recipe"]) == (1331, "fast")
