"""Learning curves: what their figure, table and files show of points, and of those not run."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex

from common.system.errors import InputError
from common.tables.curve_points import Pair, Point, points_json, read_points
from common.tables.curves_figure import METHOD_STYLES, curves_figure
from common.tables.learning_curves import curves_csv, curves_table, write_curves
from common.tables.pairs import pairs_table

PIXELS = {"1 %": [108, 108], "10 %": [1018, 990], "5 a class": [80, 80], "50 a class": [693, 693]}
SERIES = {"1 %": "share", "10 %": "share", "5 a class": "number", "50 a class": "number"}


def point(method: str, split: str, name: str, oa=(0.6, 0.7), **entries) -> Point:
    given = {
        "train_pixels": PIXELS[name],
        "oa": list(oa),
        "aa": [0.5, None],
        "kappa": list(oa),
        "train_seconds": [2.0, 4.0],
        "environment": {"commit": "abc"},
    }
    command = f"baselines/SVM.py --split {split}"
    return Point("IN", method, split, SERIES[name], name, command, **given | entries)


def refused(method: str, split: str, name: str, reason: str) -> Point:
    return Point("IN", method, split, SERIES[name], name, "baselines/SVM.py", absent=reason)


@pytest.fixture
def points():
    """Two methods on two splits; the second has no 10 % away from the training blocks."""
    made = [
        point(method, split, name)
        for method in ("SVM", "SSRN")
        for split in ("random", "disjoint")
        for name in PIXELS
    ]
    made[-3] = refused("SSRN", "disjoint", "10 %", "fields too small")
    return made


def test_a_row_for_each_point_and_a_line_for_what_was_not_run(points):
    table = curves_table("Curves", points)
    assert table.header == [
        *("split", "trained on", "training pixels"),
        *("SVM, OA %", "SSRN, OA %", "SVM, AA %", "SSRN, AA %"),
    ]
    assert [row[:2] for row in table.rows] == [
        [s, n] for s in ("random", "disjoint") for n in PIXELS
    ]
    assert table.rows[0][2:] == ["108", *["65.00 ± 5.00"] * 2, *["50.00 ± 0.00"] * 2]
    assert table.rows[5][2:] == ["990–1018", "65.00 ± 5.00", "not run", "50.00 ± 0.00", "not run"]
    assert table.notes == ["Not run: SSRN; disjoint, 10 %: fields too small."]
    assert len(table.align) == len(table.header) == len(table.rows[0])


def test_a_method_that_did_not_run_at_all_has_a_line_and_no_columns(points):
    missing = [
        refused("CNN", split, n, "killed") for split in ("random", "disjoint") for n in PIXELS
    ]
    table = curves_table("Curves", points + missing)
    assert table.header == curves_table("Curves", points).header
    assert table.rows == curves_table("Curves", points).rows
    assert table.notes[1:] == ["Not run: CNN: killed."]


def test_a_point_that_no_method_ran_at_has_no_row(points):
    missing = [refused(method, "random", "10 %", "killed") for method in ("SVM", "SSRN")]
    others = [p for p in points if (p.split, p.name) != ("random", "10 %")]
    table = curves_table("Curves", others + missing)
    assert ["random", "10 %"] not in [row[:2] for row in table.rows]
    assert table.notes[1:] == [
        f"Not run: {name}; random, 10 %: killed." for name in ("SVM", "SSRN")
    ]


def test_a_study_without_splits_has_no_column_of_them():
    table = curves_table("Curves", [point("SVM", "", "1 %", oa=[0.5], aa=[None])])
    assert table.header == ["trained on", "training pixels", "SVM, OA %", "SVM, AA %"]
    assert table.rows == [["1 %", "108", "50.00", "–"]]
    assert "±" not in table.caption


def test_lines_join_the_means_in_order_of_pixels_and_leave_out_what_was_not_run(points):
    figure = curves_figure(points)
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles == [
        "OA, random split",
        "AA, random split",
        "OA, disjoint split",
        "AA, disjoint split",
    ]
    svm_share, svm_number, ssrn_share, _ = figure.axes[2].lines
    np.testing.assert_allclose(svm_share.get_xydata(), [[108, 65], [1004, 65]])
    np.testing.assert_allclose(svm_number.get_xydata(), [[80, 65], [693, 65]])
    np.testing.assert_allclose(ssrn_share.get_xydata(), [[108, 65]])
    assert svm_share.get_linestyle() != svm_number.get_linestyle()
    assert svm_share.get_color() == svm_number.get_color() != ssrn_share.get_color()
    band = figure.axes[2].collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == (pytest.approx(60), pytest.approx(70))
    assert figure.axes[0].get_xscale() == "log"
    named = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert named == [["SVM", "SSRN"], ["share", "number"]]


@pytest.mark.parametrize("absent", [(), ("disjoint",)])
def test_panels_fill_the_figure(points, absent):
    figure = curves_figure([p for p in points if p.method == "SVM" or p.split not in absent])
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert axis.get_position().width > 0.4 and axis.get_position().height > 0.3


def test_one_series_needs_no_legend_and_a_narrow_axis_has_numbers_all_the_same():
    shown = [point("SVM", "", "1 %", train_pixels=[n, n]) for n in (120, 140)]
    figure = curves_figure(shown)
    assert [axis.get_title("left") for axis in figure.axes] == ["OA", "AA"]
    assert len(figure.legends) == 1
    low, high = figure.axes[0].get_xlim()
    assert sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) >= 2


def test_a_score_that_is_undefined_is_left_out_of_the_line():
    figure = curves_figure([point("SVM", "", "1 %", aa=[None, None]), point("SVM", "", "10 %")])
    np.testing.assert_allclose(figure.axes[1].lines[0].get_xydata(), [[1004, 50]])


def test_methods_keep_their_colour_where_one_of_them_has_no_result_on_a_split(points):
    without = [p for p in points if (p.method, p.split) != ("SVM", "disjoint")]
    disjoint = curves_figure(without).axes[2].lines
    assert {to_hex(line.get_color()) for line in disjoint} == {METHOD_STYLES[1][0]}


def test_points_are_read_as_they_were_written(points, tmp_path):
    path = tmp_path / "curves.json"
    path.write_text(points_json("Kurven", points), "utf-8")
    assert read_points(path) == ("Kurven", points, [])
    assert len(path.read_text("utf-8").splitlines()) == len(points) + 3  # a line for each


def with_seeds(pixels: str, **entries) -> Point:
    return point("SVM", "random", "1 %", test_sha256=list(pixels), **entries)


def test_what_a_pair_differs_in(points, tmp_path):
    """Iterations of the same test pixels are set side by side, whatever their order."""
    plain = with_seeds("abc", oa=[0.5, 0.6, 0.7], aa=[0.5, 0.5, None])
    other = dataclasses.replace(plain, name="10 %", oa=[0.71, 0.54, 0.60], test_sha256=list("cad"))
    pair = Pair("10 %", "1 %")
    table = pairs_table([plain, other], [pair])
    t = scipy.stats.ttest_rel([0.71, 0.54], [0.7, 0.5])
    assert table.rows == [
        ["10 %", "1 %", "SVM, random", "2", "+2.50 ± 1.50", f"{t.pvalue:.3f}", "–", "–"]
    ]
    assert "With 2 seeds" in table.notes[1]

    of_methods = [plain, dataclasses.replace(plain, method="SSRN", oa=[0.4, 0.5, 0.6])]
    table = pairs_table(of_methods, [Pair("SVM", "SSRN")])
    assert table.rows[0][2:6] == [
        "1 %, random",
        "3",
        "+10.00 ± 0.00",
        "same difference on every seed",
    ]
    assert table.rows[0][6:] == ["0.00 ± 0.00", "no difference"]

    path = tmp_path / "curves.json"
    path.write_text(points_json("Pairs", [plain, other], [pair]), "utf-8")
    assert read_points(path) == ("Pairs", [plain, other], [pair])


def test_no_test_of_what_did_not_run_or_has_other_pixels(points):
    plain = with_seeds("ab")
    absent = refused("SVM", "random", "10 %", "killed")
    other_split = dataclasses.replace(plain, name="10 %", split="disjoint")
    for other in (absent, other_split):
        assert pairs_table([plain, other], [Pair("10 %", "1 %")]) is None
    other_pixels = dataclasses.replace(plain, name="10 %", test_sha256=list("bd"))
    table = pairs_table([plain, other_pixels], [Pair("10 %", "1 %")])
    assert table.rows == [["10 %", "1 %", "SVM, random", "1", "–", "–", "–", "–"]]
    assert table.notes[1] == "–: fewer than two seeds have the same test pixels."


def test_pairs_stand_in_the_place_of_the_figure(points, tmp_path):
    points = [dataclasses.replace(p, test_sha256=["a", "b"] if p.oa else []) for p in points]
    write_curves(tmp_path, "Pairs", points, [Pair("10 %", "1 %")])
    assert not list(tmp_path.glob("*.png"))
    table = (tmp_path / "table.md").read_text("utf-8")
    assert "| split | variant |" in table and table.count("| 10 % | 1 % |") == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "a", "points": [{"oa": []}]}'])
def test_another_file_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "curves.json"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"not the curves\.json of a study"):
        read_points(path)
    path.unlink()
    with pytest.raises(InputError, match=r"curves\.json"):
        read_points(path)


def test_numbers_for_a_spreadsheet(points):
    rows = list(csv.DictReader(io.StringIO(curves_csv(points))))
    assert len(rows) == len(points)
    first, not_run = rows[0], rows[-3]
    assert (first["oa"], first["oa_std"], first["iterations"]) == ("65.0000", "5.0000", "2")
    assert (first["train_pixels"], first["train_seconds"]) == ("108.0", "3.0")
    assert (not_run["oa"], not_run["not_run"]) == ("", "fields too small")


def test_a_study_of_which_nothing_ran_still_says_why(tmp_path):
    write_curves(tmp_path, "Curves", [refused("SVM", "", "1 %", "IN.mat missing")])
    assert "IN.mat missing" in (tmp_path / "table.md").read_text("utf-8")
    assert "IN.mat missing" in (tmp_path / "study.html").read_text("utf-8")
    assert not list(tmp_path.glob("*.png"))


def test_everything_is_written(points, tmp_path):
    write_curves(tmp_path, "Curves <1>", points)
    names = {path.name for path in tmp_path.iterdir()}
    tables = {"table.md", "table.tex", "table.csv"}
    assert names == {*tables, "IN_curves.png", "IN_curves.pdf", "curves.json", "study.html"}
    html = (tmp_path / "study.html").read_text("utf-8")
    assert "Curves &lt;1&gt;" in html and html.count("data:image/png;base64,") == 1
    assert "Mean over 2 iterations" in html
    assert "fields too small" in html
    assert len(json.loads((tmp_path / "curves.json").read_text("utf-8"))["points"]) == len(points)
