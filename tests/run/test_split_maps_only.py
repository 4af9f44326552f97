"""A scene that is given as cube, training map and test map, without a ground truth."""

import numpy as np
import scipy.io

from baselines.SVM import DEFAULTS, SVM
from common.run.cli import run_script
from tests.conftest import toy_labels
from tests.run.test_map_scene import toy_cube
from tests.run.test_scripts import read_report


def test_it_trains_on_the_one_and_tests_on_the_other(tmp_path, monkeypatch, capsys):
    train, test = np.array([0, 3, 4, 10, 20, 30])[toy_labels()][None].repeat(2, axis=0)
    train[:, 12:], test[:, :13] = 0, 0
    cube = toy_cube() + np.uint16(1)
    scipy.io.savemat(tmp_path / "sf.mat", {"input": cube, "TR": train, "TE": test})
    (tmp_path / "sf.yaml").write_text("name: sf\ncube: {path: sf.mat, variable: input}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    flags = ["-d", "sf.yaml", "-p", "2", "-i", "1", "--out", "out"]
    assert run_script(SVM, DEFAULTS, flags) == 2
    assert "sf.yaml: no ground_truth to train on, nor --split TRAIN_MAP" in capsys.readouterr().err
    split = ["--split", "sf.mat:TR", "sf.mat:TE"]
    assert run_script(SVM, DEFAULTS, [*flags, *split]) == 0
    np.testing.assert_array_equal(np.load("out/gt.npy"), train + test)
    report = read_report(tmp_path / "out")
    assert report["labels"] == [3, 4, 10, 20, 30]
    assert report["split"]["test"] == np.count_nonzero(test)
    assert report["source"] == "sf.mat, sf.mat:TR, sf.mat:TE"
    assert run_script(SVM, DEFAULTS, [*flags, *split, "--resume"]) == 0
