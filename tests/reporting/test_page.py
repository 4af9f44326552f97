"""The report page: self-contained, true to report.json, and there for every kind of run."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.io
from PIL import Image, ImageColor

import common.reporting.page
from A2S2KResNet.A2S2KResNet import DEFAULTS, A2S2KResNet
from common.reporting.figures import confusion, row_shares
from common.reporting.map_figures import (
    BLACK,
    ERROR_COLOURS,
    KEYS,
    disagreement,
    map_panels,
    maps,
    numbered_names,
    second_class,
    shaded,
)
from common.reporting.page import write_page
from common.reporting.pictures import palette
from common.reporting.read_results import read_outcome
from common.run.cli import main
from common.run.page_command import main as page_main
from common.scenes.colours import default_colours
from common.scenes.scene_file import SCENES, describe
from tests.conftest import toy_labels

SHORT = ["-p", "2", "-k", "4", "-e", "2", "--precision", "fp32"]


@pytest.fixture(scope="module")
def results(toy_data, tmp_path_factory):
    """A results directory of two iterations, with its page."""
    out = tmp_path_factory.mktemp("page") / "out"
    flags = ["-d", "UP", "--data-dir", str(toy_data), "-i", "2", "--map", "all", "--out", str(out)]
    assert main(A2S2KResNet, DEFAULTS, [*SHORT, *flags]) == 0
    write_page(out)
    return out


class Page(HTMLParser):
    """What a test wants to know of a page: its tags, the text, what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.sources, self.words, self.titles = [], [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.titles += [value for name, value in attributes if name == "title"]

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)


@pytest.fixture
def no_figure_files(monkeypatch):
    """Leave out the figures beside the page, each of which takes as long as the page itself."""
    monkeypatch.setattr(common.reporting.page, "write_figures", lambda folder, figures: None)


def read_page(out) -> Page:
    return Page((out / "report.html").read_text("utf-8"))


def test_page_needs_no_other_file_no_network_and_no_script(results):
    page = read_page(results)
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in (results / "report.html").read_text("utf-8")
    assert "url(" not in (results / "report.html").read_text("utf-8")


def test_page_shows_the_figures_of_the_report(results):
    page, report = read_page(results), json.loads((results / "report.json").read_text("utf-8"))
    for name in ("oa", "aa", "kappa", "aa_users", "f1_macro"):
        assert f"{100 * report[f'{name}_mean']:.2f}" in page.text
        assert f"± {100 * report[f'{name}_std']:.2f}" in page.text
    for name in report["class_names"]:
        assert name in page.text
    counts = np.sum(report["confusion"], axis=0)
    shown = [int(title.split()[0]) for title in page.titles if title.endswith(" pixels")]
    np.testing.assert_array_equal(np.reshape(shown, counts.shape), counts)
    share = 100 * np.mean(report["split"]["test_patches_with_training_pixels"])
    assert f"{share:.1f} % of the test patches contain training pixels" in page.text
    assert report["environment"]["torch"] in page.text
    assert report["split"]["test_sha256"][1] in page.text


def test_figures_are_files_too(results):
    for name in ("learning_curves", "confusion", "maps", "attention"):
        with Image.open(results / "figures" / f"{name}.png") as picture:
            assert picture.width > 600
        assert (results / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_every_map_is_on_the_page(results):
    titles = list(map_panels(read_outcome(results)))
    assert titles == [
        "false colour", "ground truth", "classification", "errors", "confidence", "disagreement",
        "split",
    ]  # fmt: skip
    page = read_page(results)
    assert page.tags.count("img") == len(titles) + 2  # curves, attention
    assert all(title in page.text for title in titles)


def test_error_map_marks_exactly_the_wrong_pixels(results):
    outcome = read_outcome(results)
    wrong = (toy_labels() > 0) & (outcome.iterations[0].label_map != toy_labels())
    black, right_colour, wrong_colour = palette(tuple(ERROR_COLOURS.values()))
    errors = map_panels(outcome)["errors"]
    np.testing.assert_array_equal((errors == wrong_colour).all(axis=2), wrong)
    np.testing.assert_array_equal((errors == black).all(axis=2), toy_labels() == 0)
    assert (errors == right_colour).all(axis=2).any()


def test_disagreement_is_the_share_outvoted(results):
    first, second = (it.label_map for it in read_outcome(results).iterations)
    np.testing.assert_array_equal(
        disagreement(read_outcome(results)), np.where(first == second, 0.0, 0.5)
    )


def test_the_second_class_and_how_far_it_is_behind():
    probabilities = np.array([[[0.2, 0.5, 0.3], [0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]]])
    second, margin = second_class(probabilities)
    np.testing.assert_array_equal(second, [[3, 2, 0, 1]])  # of equal ones the first is mapped
    np.testing.assert_allclose(margin, [[0.2, 0, np.nan, 1]])
    second, margin = second_class(np.array([[[1.0], [0.0]]]))  # a scene of one class
    np.testing.assert_array_equal(second, [[0, 0]])
    np.testing.assert_array_equal(margin, [[1, np.nan]])


def test_second_class_is_on_the_page_where_there_are_probabilities(
    results, tmp_path, no_figure_files
):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    classes = len(json.loads((results / "report.json").read_text("utf-8"))["class_names"])
    probabilities = np.full((*toy_labels().shape, classes), 0.1 / classes, np.float32)
    probabilities[..., 1], probabilities[..., 3] = 0.6, 0.3
    np.save(tmp_path / "run_0" / "probabilities.npy", probabilities)
    panels = map_panels(read_outcome(tmp_path))
    assert list(panels)[4:7] == ["confidence", "second class", "margin"]
    fourth = palette(read_outcome(tmp_path).colours)[4]
    assert (panels["second class"] == fourth).all()
    write_page(tmp_path)
    page = read_page(tmp_path)
    assert "second class second most probable, first iteration" in page.text
    assert "margin largest softmax less the second, first iteration 0 1 pale grey" in page.text


def test_shares_and_shades_of_nothing():
    shares = row_shares(np.array([[1, 3], [0, 0]]))
    np.testing.assert_array_equal(shares, [[25, 75], [np.nan, np.nan]])
    shades = shaded(np.array([[np.nan, 0.0, 1.0]]), 0.0, 1.0)
    assert shades[0, 1].sum() < shades[0, 2].sum()
    every = shaded(np.linspace(0, 1, 256)[None], 0.0, 1.0).astype(int)
    assert np.abs(every - shades[0, 0]).sum(axis=2).min() > 100  # NaN looks like none of them


def test_page_without_maps_and_with_one_iteration(toy_data, tmp_path, no_figure_files):
    flags = ["-d", "UP", "--data-dir", str(toy_data), "-i", "1", "--map", "none"]
    assert main(A2S2KResNet, DEFAULTS, [*SHORT, *flags, "--out", str(tmp_path / "out")]) == 0
    write_page(tmp_path / "out")
    page = read_page(tmp_path / "out")
    assert "one iteration" in page.text
    assert "first iteration" not in page.text.lower()
    assert "classification" not in page.text
    assert "not tested" in page.text
    assert "Student" not in page.text


def test_of_several_iterations_the_maps_are_the_firsts(results):
    assert "classification first iteration" in read_page(results).text
    assert "errors labelled pixels, first iteration" in read_page(results).text


def test_page_says_what_a_run_cost_and_was_made_with(results):
    page, report = read_page(results), json.loads((results / "report.json").read_text("utf-8"))
    assert f"learned parameters {report['parameters']:,}" in page.text
    assert f"multiply-adds per pixel, patches {report['macs_per_pixel']:,}" in page.text
    assert report["command"] in page.text
    assert all(checksum in page.text for checksum in report["files_sha256"].values())
    assert f"torch {report['packages']['torch']}" in page.text
    for key in ("oa_ci95_iterations", "oa_ci95_blocks"):
        low, high = report[key]
        assert f"{100 * low:.2f}–{100 * high:.2f} %" in page.text
    assert "neighbours are alike" in page.text


def test_settings_of_a_run_with_weights_are_not_the_trainings(results, toy_data, tmp_path):
    weights = str(results / "run_1" / "weights.pt")
    flags = ["-d", "UP", "--data-dir", str(toy_data), "--weights", weights, "--map", "none"]
    assert main(A2S2KResNet, DEFAULTS, [*flags, "--out", str(tmp_path / "out")]) == 0
    write_page(tmp_path / "out")
    text = read_page(tmp_path / "out").text.partition("How it was made")[0]
    own, training = text.split("Settings of the training, by the file of weights")
    own = own.partition("Settings model A2S2KResNet")[2]
    assert f"weights {weights}" in own
    assert "map none" in own
    assert "optimizer" not in own
    assert "optimizer adam" in training
    assert "map all" in training


def colours_of(names: list[str]) -> np.ndarray:
    return np.array([ImageColor.getrgb(name) for name in names], float)


@pytest.mark.parametrize("key", [*SCENES, None])
def test_no_class_has_a_colour_of_errors_or_of_the_split(key):
    """Of benchmarks and of scenes without colours: 35 of 442 apart in RGB, at the least."""
    classes = describe(key).colours if key else default_colours(20)
    for key_colours in KEYS.values():
        others = colours_of([*key_colours.values(), "#000000"])
        apart = np.linalg.norm(others[:-1, None] - colours_of(classes), axis=2)
        assert apart.min() > 35
        brightness = np.sort(others @ [0.299, 0.587, 0.114])
        assert np.diff(brightness).min() > 60  # told apart in grey, too


def test_each_map_has_its_own_legend(results):
    outcome = read_outcome(results)
    figure = maps(outcome)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*numbered_names(outcome), BLACK]
    own = {
        axis.get_title(): [text.get_text() for text in axis.get_legend().get_texts()]
        for axis in figure.axes
        if axis.get_legend()
    }
    assert own == {"errors": ["right", "wrong"], "split": ["training", "validation", "test"]}
    bars = [bar for axis in figure.axes for bar in axis.child_axes]
    ends = [[tick.get_text() for tick in axis.get_xticklabels()] for axis in bars]
    assert ends == [["0.111", "1"], ["0 %", "50 %"]]
    assert all("not classified" in axis.get_xlabel() for axis in bars)


def test_confusion_names_classes_as_the_page_does_and_says_what_it_shows(results):
    axis = confusion(read_outcome(results)).axes[0]
    assert axis.get_yticklabels()[0].get_text() == "1 Asphalt"
    for shown in (axis.get_title(loc="right"), read_page(results).text):
        assert "per cent of the row's pixels; rounded, so that a row may not add up" in shown


def test_page_of_a_scene_without_ground_truth(results, toy_data, tmp_path, no_figure_files):
    (tmp_path / "new.yaml").write_text("name: <b>New</b> ground\ncube: cube.npy\n", "utf-8")
    cube = scipy.io.loadmat(toy_data / "PaviaU.mat")["paviaU"]
    np.save(tmp_path / "cube.npy", cube)
    flags = ["-d", str(tmp_path / "new.yaml"), "--weights", str(results / "run_0" / "weights.pt")]
    assert main(A2S2KResNet, DEFAULTS, [*flags, "--out", str(tmp_path / "out")]) == 0
    write_page(tmp_path / "out")
    page = read_page(tmp_path / "out")
    assert "A2S2K-ResNet on <b>New</b> ground" in page.text  # shown as text, not as a tag
    assert "b" not in page.tags
    assert "no ground truth" in page.text
    label_map = np.load(tmp_path / "out" / "run_0" / "map.npy")
    for pixels in np.bincount(label_map.ravel(), minlength=10)[1:]:
        assert str(pixels) in page.text


def test_command_writes_the_page_anew(results, capsys):
    before = (results / "report.html").read_bytes()
    (results / "report.html").unlink()
    assert page_main([str(results)]) == 0
    assert (results / "report.html").read_bytes() == before
    assert capsys.readouterr().out.strip() == str(results / "report.html")


def test_page_of_what_is_left(results, tmp_path):
    """A report and arrays, as the published runs keep them: the page leaves out the rest."""
    names = ("report.json", "gt.npy", "run_0/map.npy", "run_0/split.npy")
    (tmp_path / "run_0").mkdir()
    for name in names:
        shutil.copy(results / name, tmp_path / name)
    write_page(tmp_path)
    page = read_page(tmp_path)
    assert "classification" in page.text
    assert "false colour" not in page.text
    assert "Learning curves" not in page.text


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"class_colours": []}', "old"])
def test_what_is_no_results_directory_is_refused_in_one_line(
    content, results, tmp_path, capsys, no_figure_files
):
    if content == "old":
        shutil.copytree(results, tmp_path, dirs_exist_ok=True)
        report = json.loads((results / "report.json").read_text("utf-8"))
        del report["environment"]
        content = json.dumps(report)
    if content is not None:
        (tmp_path / "report.json").write_text(content, "utf-8")
    assert page_main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
