"""Names in any script: drawn where the machine has the characters, else numbers in their place."""

import dataclasses
import warnings

import matplotlib
import numpy as np
import pytest

from common.reporting import fonts
from common.reporting.figures import draw_figures, encoded
from common.reporting.fonts import families_for
from common.reporting.read_results import IterationFiles, Outcome

NAMES = ["水田", "小麦 & 玉米", "Straße_50%"]


@pytest.fixture
def outcome() -> Outcome:
    labels = np.array([0, 1, 2, 30])[np.arange(12).reshape(3, 4) % 4]
    report = {
        "shape": [3, 4, 9],
        "class_names": NAMES,
        "class_colours": ["#ff0000", "#00ff00", "#0000ff"],
        "labels_in_maps": [1, 2, 30],
        "confusion": [[[3, 1, 0], [0, 4, 0], [0, 0, 4]]],
    }
    iteration = IterationFiles(labels, None, None, None, {}, {})
    return Outcome(report, labels, np.zeros((3, 4, 3), np.uint8), [iteration])


def drawn_texts(figures) -> set[str]:
    found = set()
    for figure in figures.values():
        for axis in figure.axes:
            found |= {label.get_text() for label in axis.get_yticklabels()}
        for legend in figure.legends:
            found |= {text.get_text() for text in legend.get_texts()}
    return found


def test_latin_names_need_no_other_font(monkeypatch):
    monkeypatch.setattr(fonts, "_machines_fonts", lambda: pytest.fail("looked for fonts"))
    assert families_for(["Asphalt", "Straße_50%", "Ωμέγα", "Пшеница"]) == (["DejaVu Sans"], set())


def test_without_a_font_numbers_stand_and_one_line_says_so(outcome, monkeypatch, capsys):
    monkeypatch.setattr(fonts, "_machines_fonts", lambda: [])
    with warnings.catch_warnings(action="error"):
        figures = draw_figures(outcome)
        for figure in figures.values():
            encoded(figure, "png", {})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: no font on this machine has all characters of 水田, 小麦 & 玉米;")
    texts = drawn_texts(figures)
    assert {"1 class 1", "2 class 2", "30 Straße_50%"} <= texts
    assert outcome.report["class_names"] == NAMES  # the page still has them


def test_a_machines_font_is_used_for_what_the_own_lacks(outcome, monkeypatch, capsys):
    """DejaVu Sans Mono stands for a font of the machine's, in a script that the figures' lacks."""
    other = matplotlib.font_manager.findfont("DejaVu Sans Mono")
    own = matplotlib.font_manager.findfont("DejaVu Sans")
    characters = fonts._characters
    monkeypatch.setattr(fonts, "_machines_fonts", lambda: [other])
    monkeypatch.setattr(
        fonts, "_characters", lambda path: characters(path) - (set("ß") if path == own else set())
    )
    outcome.report["class_names"] = ["Rye", "Oats", "Straße"]
    assert families_for(outcome.report["class_names"])[0] == ["DejaVu Sans", "DejaVu Sans Mono"]
    figure = draw_figures(dataclasses.replace(outcome))["maps"]
    assert figure.legends[0].get_texts()[0].get_fontfamily() == ["DejaVu Sans", "DejaVu Sans Mono"]
    assert capsys.readouterr().err == ""


def test_chinese_where_the_machine_has_it(outcome, capsys):
    families, missing = families_for(NAMES)
    if missing:
        pytest.skip("no font here has Chinese")
    assert len(families) > 1
    with warnings.catch_warnings(action="error"):
        figures = draw_figures(outcome)
        files = [encoded(figures["maps"], kind, {}) for kind in ("png", "pdf", "svg")]
    assert "1 水田" in drawn_texts(figures)
    assert all(files)
    assert capsys.readouterr().err == ""
