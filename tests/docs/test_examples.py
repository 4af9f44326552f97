"""The examples in Python run: a network of one's own, and what docs/python.md shows."""

import importlib.util
import json

from common.run.cli import main
from common.run.study import read_study
from common.system.files import REPOSITORY
from tests.docs.pages import blocks, page


def test_network_of_one_s_own_trains_and_is_used(tmp_path, toy_data, monkeypatch):
    (example,) = blocks(page("CONTRIBUTING.md"), "python")
    assert len(example.splitlines()) <= 40
    (tmp_path / "SpectralNet").mkdir()
    file = tmp_path / "SpectralNet" / "SpectralNet.py"
    file.write_text(example, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # undone with what the example adds
    spec = importlib.util.spec_from_file_location("SpectralNet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    flags = ["-d", "UP", "--data-dir", str(toy_data), "--precision", "fp32"]
    training = ["-e", "2", "-i", "1", "-p", "2", "-k", "4", "--out", str(tmp_path / "trained")]
    assert main(module.SpectralNet, module.DEFAULTS, [*flags, *training]) == 0
    report = json.loads((tmp_path / "trained" / "report.json").read_text("utf-8"))
    assert report["model"] == "SpectralNet"
    assert report["epochs_run"] == [2]
    weights = ["--weights", str(tmp_path / "trained" / "run_0" / "weights.pt")]
    used = tmp_path / "used"
    assert main(module.SpectralNet, module.DEFAULTS, [*flags, *weights, "--out", str(used)]) == 0
    assert json.loads((used / "report.json").read_text("utf-8"))["oa"] == report["oa"]


def test_python_page_runs(toy_in, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_DATA_DIR", str(toy_in))
    first, *others = blocks(page("docs/python.md"), "python")
    assert 'recipe="fast")' in first
    values = {}
    exec(first.replace('recipe="fast")', 'recipe="fast", epoch=2, kernel=4)'), values)
    assert capsys.readouterr().out.startswith("OA ")
    for example in others:
        exec(example, values)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0.003 adamw"  # the recipe's own
    assert lines[-1] == "argument -vs/--valid_split: '1.5' is not between 0 and 1 (see --help)"
    assert values["model"].split.train.size == values["own"].train.size
    assert values["again"].split.test.size == values["own"].test.size
    assert values["label_map"].shape == (40, 36)
    assert values["outcome"].report["oa"] == values["report"]["oa"]
    assert values["logits"].shape == (4, 16)
    assert {path.name for path in tmp_path.iterdir()} == {
        "maps.png",
        "part.png",
        "weights.pt",
        "results",
    }


def test_readme_shows_it_in_a_few_lines(toy_in, monkeypatch, capsys):
    monkeypatch.setenv("HSI_DATA_DIR", str(toy_in))
    (example,) = blocks(page("README.md"), "python")
    assert len(example.splitlines()) <= 6
    assert 'recipe="fast")' in example
    exec(example.replace('recipe="fast")', 'recipe="fast", epoch=2, kernel=4)'), {})
    assert 0 <= float(capsys.readouterr().out) <= 1


def test_studies_are_ones_that_can_be_run(tmp_path):
    studies = []
    for number, example in enumerate(blocks(page("docs/paper-tables.md"), "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example, "utf-8")
        studies.append(read_study(path))
    table, curves, paired = studies
    assert {run.settings.model for run in table.runs} == {"A2S2KResNet", "SSRN"}
    assert all(run.settings.recipe == "fast" for run in table.runs)
    assert curves.varies and len(curves.runs) == 2 * 2 * 5
    assert paired.varies and paired.pairs == (("balanced", "none"),)


def test_examples_are_short_lines():
    for name in ("README.md", "CONTRIBUTING.md", "docs/python.md", "docs/export.md"):
        for example in blocks(page(name), "python"):
            assert max(map(len, example.splitlines())) <= 100
            compile(example, str(REPOSITORY / name), "exec")
