"""The benchmarks' tables, and that every contestant can be measured."""

import subprocess
import sys

import pytest
import torch

import benchmarks.run
from benchmarks.measure import NETWORKS
from benchmarks.run import CONTESTANTS, in_turn, markdown
from benchmarks.scaling import POINTS, SWEEPS
from common.system.files import REPOSITORY
from common.system.process import USERS_OWN, WHERE_ALONE

ENVIRONMENT = {"device_name": "a machine", "threads": 2, "torch": "2", "python": "3", "commit": "c"}


def test_ratios_are_medians_over_rounds_of_how_many_times_better():
    values = {
        "training step": {"SSRN": {"plain": [90, 30, 60], "fp32": [30, 30, 30], "bf16": [10] * 3}},
        "evaluation": {"SSRN": {"plain": [1, 2, 1], "fp32": [3, 2, 4], "bf16": [5, 6, 7]}},
    }
    result = {
        "date": "2026-01-01",
        "command": "c",
        "environment": ENVIRONMENT,
        "auto_precision": "bf16",
        "protocol_epochs": 5,
        "values": values,
    }
    table = markdown(result)
    assert (
        "| SSRN | 60.0 (30.0 – 90.0) | 30.0 (30.0 – 30.0) | 2.0 | 10.0 (10.0 – 10.0) | 6.0 |"
        in table
    )
    assert "| SSRN | 1.0 (1.0 – 2.0) | 3.0 (2.0 – 4.0) | 3.0 | 6.0 (5.0 – 7.0) | 5.0 |" in table


def test_every_contestant_is_first_in_turn():
    assert {in_turn(number, CONTESTANTS)[0] for number in range(3)} == set(CONTESTANTS)


def test_where_bfloat16_is_not_fast_it_has_no_columns():
    result = {
        "date": "2026-01-01",
        "command": "c",
        "environment": ENVIRONMENT,
        "auto_precision": "fp32",
        "protocol_epochs": 5,
        "values": {"training step": {"CNN": {"plain": [90.0], "fp32": [30.0]}}},
    }
    head, rule, row = markdown(result).splitlines()[2:]
    assert (head, rule) == ("| | | plain | fp32 | × |", "|---|---|---|---|---|")
    assert row == "| training step, ms | CNN | 90.0 | 30.0 | 3.0 |"
    assert "whole protocol" not in markdown(result)


def test_every_network_has_a_script_to_measure():
    assert [*benchmarks.run.MODELS, *benchmarks.run.COMPARED] == list(NETWORKS)


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory as Unix does")
@pytest.mark.parametrize(
    ("name", "size"), [("training pixels", 40), ("bands", 20), ("rows and columns", 12)]
)
def test_growth_can_be_measured(name, size):
    values = POINTS[name](size, torch.device("cpu"))
    assert values.keys() == SWEEPS[name][1].keys()
    assert min(values.values()) > 0


def test_a_step_beside_others_is_measured_as_scripts_run_and_leaves_none_behind(monkeypatch):
    started, environments, popen = [], [], subprocess.Popen

    def start(command):
        started.append(popen(command))
        return started[-1]

    def measure(command, env, **options):
        assert [process.poll() for process in started] == [None, None]
        environments.append(env)
        return subprocess.CompletedProcess(command, 0, '{"value": 1.5}')

    monkeypatch.setattr(benchmarks.run.subprocess, "Popen", start)
    monkeypatch.setattr(benchmarks.run.subprocess, "run", measure)
    for name in USERS_OWN:
        monkeypatch.delenv(name, raising=False)
    for contestant in ("plain", "fp32"):
        assert benchmarks.run.measured("busy", contestant, "SSRN", "cpu") == 1.5
        assert None not in [process.poll() for process in started]
        started.clear()
    assert [USERS_OWN & env.keys() for env in environments] == [set(), set(WHERE_ALONE)]


@pytest.mark.slow
@pytest.mark.parametrize("contestant", CONTESTANTS)
@pytest.mark.parametrize(
    ("what", "model"), [("step", "SSRN"), ("evaluate", "SSRN"), ("step", "SPA"), ("step", "SAE")]
)
def test_measures(contestant, what, model):
    command = [sys.executable, "-m", "benchmarks.measure", what, "--model", model]
    output = subprocess.run(
        [*command, "--contestant", contestant],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    assert output.stdout.startswith('{"value": ')
