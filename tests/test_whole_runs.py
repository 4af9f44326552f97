"""Whole runs of the training scripts on scenes of real size, with their peak memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from common.scenes.array_file import open_array
from common.system.files import REPOSITORY
from tests.conftest import original

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="measures memory as Unix does"),
]
GB = 1024**3


def run_script(script: str, out: Path, *flags: str) -> tuple[dict, int]:
    """Run a training script to its end; return its report and its peak memory in bytes."""
    command = [sys.executable, str(REPOSITORY / script), "-i", "1", "--out", str(out), *flags]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return json.loads((out / "report.json").read_text("utf-8")), usage.ru_maxrss * 1024


SCRIPTS = ["A2S2KResNet/A2S2KResNet.py", "SSRN/SSRN.py"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_indian_pines(script, tmp_path):
    report, peak = run_script(script, tmp_path / "out", "-d", "IN", "-e", "5")
    assert report["split"]["test"] == 8213
    assert report["oa"][0] > 0.75  # five epochs of two hundred
    assert peak < 1.5 * GB


@pytest.mark.parametrize("script", SCRIPTS)
def test_scene_of_the_size_of_pavia_university(script, tmp_path):
    labels = open_array(original("PaviaU_gt.mat"), "paviaU_gt").read()
    generator = np.random.default_rng(0)
    cube = generator.integers(500, 2500, size=(10, 103))[labels]
    cube = cube + generator.normal(scale=200, size=cube.shape)
    scipy.io.savemat(tmp_path / "PaviaU.mat", {"paviaU": cube.clip(0).astype(np.uint16)})
    scipy.io.savemat(tmp_path / "PaviaU_gt.mat", {"paviaU_gt": labels})
    flags = ["-d", "UP", "-e", "1", "--data-dir", str(tmp_path)]
    report, peak = run_script(script, tmp_path / "out", *flags)
    assert report["split"]["test"] == 34_232
    assert report["oa"][0] > 0.9
    assert peak < 1.5 * GB
