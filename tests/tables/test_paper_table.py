"""Tables for papers: figures, bold, formats, tests of significance and messages."""

import csv
import io
import json
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from common.reporting.metrics import confusion_matrix, scores
from common.system.files import REPOSITORY
from common.tables.methods import read_method, read_methods, with_distinct_names
from common.tables.paper_table import best_cells, main
from common.tables.significance import mcnemar, paired_t
from common.tables.table_formats import Table, escape_latex, escape_markdown, latex, markdown
from tests.docs.pages import page

LABELS = np.repeat([1, 2], 10).reshape(4, 5)  # and class 3 without a pixel
SPLIT = np.full((4, 5), 3, np.uint8)
SPLIT.flat[[0, 10]] = 1
SPLIT.flat[[9, 19]] = 2
TEST = np.flatnonzero(SPLIT == 3)  # 16 pixels


def summary(values: list) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    return (float(np.mean(known)), float(np.std(known))) if known else (None, None)


def write_results(out: Path, wrong: list[list[int]], arrays: bool = True, **settings) -> Path:
    """A results directory whose iteration n misses the pixels `wrong[n]` of the 16 tested."""
    labels = LABELS.ravel()
    report = {
        "model": "SSRN",
        "dataset": "UP",
        "settings": {"seed": 7, "iter": len(wrong), "recipe": "paper"} | settings,
        "environment": {"precision": "fp32"},
        "shape": [*LABELS.shape, 60],
        "class_names": ["Asphalt", "50% & _grass_", "Shadows"],
        "split": {
            "train_per_class": [[1, 1, 0]] * len(wrong),
            "test_sha256": [f"split of seed {settings.get('seed', 7) + n}" for n in range(99)],
        },
        "confusion": [],
    }
    report["split"]["test_sha256"] = report["split"]["test_sha256"][: len(wrong)]
    results = []
    for n, missed in enumerate(wrong):
        predicted = labels.copy()
        predicted[TEST[missed]] = 3 - predicted[TEST[missed]]
        confusion = confusion_matrix(labels[TEST], predicted[TEST], classes=3)
        report["confusion"].append(confusion.tolist())
        results.append(scores(confusion))
        (out / f"run_{n}").mkdir(parents=True)
        if arrays:
            np.save(out / "gt.npy", LABELS)
            np.save(out / f"run_{n}" / "split.npy", SPLIT)
            np.save(out / f"run_{n}" / "map.npy", predicted.reshape(LABELS.shape))
    for name in ("oa", "aa", "kappa"):  # as in reports of before there was more
        report[name] = [getattr(result, name) for result in results]
        report[f"{name}_mean"], report[f"{name}_std"] = summary(report[name])
    per_class = [[None if math.isnan(x) else x for x in r.per_class] for r in results]
    columns = [summary(list(column)) for column in zip(*per_class, strict=True)]
    report["per_class_mean"], report["per_class_std"] = map(list, zip(*columns, strict=True))
    (out / "report.json").write_text(json.dumps(report), "utf-8")
    return out


def change_report(out: Path, **entries) -> None:
    path = out / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | entries), "utf-8")


@pytest.fixture
def pair(tmp_path):
    """A misses 1 and 3 of 16 pixels in its two iterations, B 4 and 4."""
    first = write_results(tmp_path / "a", [[0], [0, 1, 2]], recipe="fast")
    second = write_results(tmp_path / "b", [[0, 1, 2, 8], [0, 3, 4, 5]])
    return [str(first), str(second)]


def output(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_markdown_table(pair, capsys):
    lines = output(capsys, *pair).splitlines()
    assert lines[0].startswith("UP: test accuracies in per cent, mean ± standard deviation")
    assert lines[2:11] == [
        "| class | training pixels | SSRN (fast recipe) | SSRN (paper recipe) |",
        "| --- | ---: | ---: | ---: |",
        "| Asphalt | 1 | **75.00 ± 12.50** | 56.25 ± 6.25 |",
        r"| 50% & \_grass\_ | 1 | **100.00 ± 0.00** | 93.75 ± 6.25 |",
        "| Shadows | 0 | – | – |",
        "| OA |  | **87.50 ± 6.25** | 75.00 ± 0.00 |",
        "| AA |  | **87.50 ± 6.25** | 75.00 ± 0.00 |",
        "| κ × 100 |  | **75.00 ± 12.50** | 50.00 ± 0.00 |",
        "| F1, macro |  | **87.15 ± 6.58** | 73.97 ± 0.63 |",
    ]
    assert "- Iterations: 2." in lines
    assert "- Settings that differ: recipe." in lines


def test_significance_of_known_counts(pair, capsys):
    text = output(capsys, *pair, "--names", "A, B")
    # Seed 7: B alone misses 1, 2, 8.  Seed 8: A alone misses 1, 2, B alone 3, 4, 5.
    assert "| A | B | 7 | 16 | 3 | 0 | 0.250 |" in text
    assert "| A | B | 8 | 16 | 3 | 2 | 1.000 |" in text
    # Differences of OA 3/16 and 1/16: t = 2 with one degree of freedom, p = 1 - 2/π atan 2.
    assert f"| A | B | 2 | +12.50 | +2.00 | {1 - 2 / np.pi * np.arctan(2):.3f} |" in text
    assert "With 2 seeds the test has little power" in text


@pytest.mark.parametrize("only_first, only_second", [(1, 0), (8, 2), (2, 8), (5, 5), (100, 52)])
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second):
    first = np.repeat([True, True, False, False], [20, only_first, only_second, 3])
    second = np.repeat([True, False, True, False], [20, only_first, only_second, 3])
    n, fewer = only_first + only_second, min(only_first, only_second)
    expected = min(1, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)
    test = mcnemar(first, second)
    assert (test.n, test.only_first, test.only_second) == (23 + n, only_first, only_second)
    assert test.p == pytest.approx(expected)


def test_equal_results_are_no_difference(tmp_path, capsys):
    same = [str(write_results(tmp_path / name, [[0], [0, 1]])) for name in "ab"]
    text = output(capsys, *same)
    assert text.count("| no difference |") == 3
    assert "nan" not in text.lower()
    assert f"SSRN ({same[0]})".replace("_", r"\_") in text  # nothing else tells them apart


def test_differences_without_spread_have_no_p(tmp_path):
    test = paired_t(np.array([0.3, 0.5, 0.7]), np.array([0.2, 0.4, 0.6]))
    assert (test.t, test.p) == (None, None)
    assert test.mean_difference == pytest.approx(0.1)
    assert paired_t(np.array([0.3, 0.1 + 0.2]), np.array([0.3, 0.3])).mean_difference == 0


def test_iterations_are_paired_by_seed_and_test_pixels(tmp_path, capsys):
    wrong = [[0], [1, 2], [3]]
    first = write_results(tmp_path / "a", wrong)
    second = write_results(tmp_path / "b", [[1], [4], [5]], seed=8)
    text = output(capsys, str(first), str(second), "--names", "A,B")
    assert re.findall(r"\| A \| B \| (\d) \| 16 \| (\d) \| (\d) \|", text) == [
        ("8", "0", "1"),  # A's second and B's first iteration
        ("9", "1", "1"),
    ]
    other = write_results(tmp_path / "c", wrong, seed=50)
    text = output(capsys, str(first), str(other), "--names", "A,C")
    assert "- A, C: no test: no seed has the same test pixels." in text
    assert "McNemar's test, exact" not in text


@pytest.mark.parametrize("leave_out", ["gt.npy", "run_1/split.npy", "run_1/map.npy"])
def test_missing_files_are_noted(pair, leave_out, capsys):
    Path(pair[1], leave_out).unlink()
    text = output(capsys, *pair, "--names", "A,B")
    seeds = "seeds 7, 8" if leave_out == "gt.npy" else "seed 8"
    assert f"- No McNemar's test with B on {seeds}: {Path(leave_out).name} missing." in text
    assert "Paired t-test" in text


def test_files_that_do_not_fit_are_noted(pair, capsys):
    np.save(Path(pair[0], "run_0", "map.npy"), np.zeros_like(LABELS))
    Path(pair[1], "run_1", "split.npy").write_bytes(b"\x93NUMPY")
    text = output(capsys, *pair, "--names", "A,B")
    assert "with A on seed 7: gt.npy, split.npy and map.npy do not fit report.json." in text
    assert "with B on seed 8: split.npy damaged." in text

    first, second = (Path(directory, "run_0") for directory in pair)
    shutil.copy(second / "map.npy", first / "map.npy")
    change_report(
        Path(pair[0]),
        confusion=json.loads((second.parent / "report.json").read_text("utf-8"))["confusion"],
    )
    moved = SPLIT.copy()
    moved.flat[[0, 1]] = moved.flat[[1, 0]]  # as many pixels, and as many right, but others
    label_map = np.load(second / "map.npy")
    label_map.flat[[0, 1]] = label_map.flat[[1, 0]]
    np.save(second / "split.npy", moved)
    np.save(second / "map.npy", label_map)
    text = output(capsys, *pair, "--names", "A,B")
    assert "with B on seed 7: split.npy or gt.npy is not that of A." in text

    truth, label_map = LABELS.copy(), np.load(first / "map.npy")
    for array in (truth, label_map):  # two pixels that are right, with each other's label
        array.flat[TEST[[5, 12]]] = array.flat[TEST[[12, 5]]]
    np.save(second.parent / "gt.npy", truth)
    np.save(second / "map.npy", label_map)
    np.save(second / "split.npy", SPLIT)
    text = output(capsys, *pair, "--names", "A,B")
    assert "with B on seed 7: split.npy or gt.npy is not that of A." in text


def test_bold_is_the_best_as_printed(tmp_path):
    methods = [
        read_method(write_results(tmp_path / name, [wrong], arrays=False))
        for name, wrong in {"a": [0], "b": [8], "c": [0, 8]}.items()
    ]
    methods[1].mean[3:5] += (4e-5, 6e-5)  # OA and AA: 93.754 and 93.756 %
    assert best_cells(methods) == {
        *((0, 1), (1, 0), (3, 0), (3, 1), (4, 1), (5, 0), (5, 1), (6, 0), (6, 1))
    }
    assert best_cells(methods[:1]) == set()


def test_reference_is_compared_with_each_other(pair, tmp_path, capsys):
    third = str(write_results(tmp_path / "c", [[5], [6]]))
    for reference in ("C", third):
        text = output(capsys, *pair, third, "--names", "A,B,C", "--reference", reference)
        pairs = set(re.findall(r"^\| (.) \| (.) \| \d", text, flags=re.MULTILINE))
        assert pairs == {("C", "A"), ("C", "B")}


def test_one_directory_makes_a_table_without_tests(pair, capsys):
    text = output(capsys, pair[0])
    assert "| OA |  | 87.50 ± 6.25 |" in text
    assert "**" not in text
    assert "test, " not in text


def test_other_training_pixels_and_unfinished_runs_are_noted(pair, capsys):
    split = json.loads(Path(pair[1], "report.json").read_text("utf-8"))["split"]
    settings = {"seed": 7, "iter": 5}
    more = split | {"train_per_class": [[4, 2, 0], [4, 2, 0]]}
    change_report(Path(pair[1]), split=more, settings=settings)
    text = output(capsys, *pair, "--names", "A,B")
    assert "- Iterations: 2 (A), 2 of 5 (B)." in text
    assert "are those of A; other methods had others, in all 2 (A), 6 (B)." in text


def test_names_tell_apart_and_no_more(tmp_path):
    runs = {
        "a": {"attention": "paper", "lr": 0.1},
        "b": {"attention": "official"},
        "c": {"attention": "paper", "lr": 0.01, "patch": 4},
    }
    directories = [
        write_results(tmp_path / name, [[0]], arrays=False, **({"patch": 3} | settings))
        for name, settings in runs.items()
    ]
    names = [method.name for method in with_distinct_names(read_methods(directories))]
    assert names == [
        "SSRN (paper attention, patch 3)",
        "SSRN (official attention)",
        "SSRN (paper attention, patch 4)",
    ]


def test_csv_holds_plain_numbers_and_the_tests_lie_beside(pair, tmp_path, capsys):
    out = tmp_path / "table.csv"
    output(capsys, *pair, "--names", "A,B", "--out", str(out))
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert [row["class"] for row in rows[2:7]] == ["Shadows", "OA", "AA", "kappa", "F1, macro"]
    further = {row["class"]: row for row in rows[7:]}
    assert float(further["precision, Asphalt"]["B mean"]) == pytest.approx(90, abs=10)
    assert further["parameters"]["A mean"] == ""
    low, high = (float(further[f"oa_ci95_blocks_{end}"]["A mean"]) for end in ("low", "high"))
    assert low < 87.5 < high
    assert [float(rows[0][f"{name} {x}"]) for name in "AB" for x in ("mean", "std")] == [
        *(75, 12.5),
        *(56.25, 6.25),
    ]
    assert rows[2]["A mean"] == rows[2]["A std"] == rows[3]["training_pixels"] == ""
    tests = list(csv.DictReader(io.StringIO((tmp_path / "table_tests.csv").read_text("utf-8"))))
    assert [test["test"] for test in tests] == ["mcnemar", "mcnemar", "paired_t"]
    assert [tests[0][key] for key in ("seed", "only_first_right", "p")] == ["7", "3", "0.25"]
    assert float(tests[2]["mean_difference"]) == 12.5

    assert main([*pair, "--names", "A,B", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.out == out.read_text("utf-8")
    assert "_tests.csv" in captured.err


def test_latex_escapes():
    assert escape_latex(r"50 %_&#${}\~^<>|") == (
        r"50 \%\_\&\#\$\{\}\textbackslash{}\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert escape_latex("[a]\n* 1 ± 2 – −3") == r"{[}a] {*} 1 $\pm$ 2 -- $-$3"


def test_markdown_escapes():
    assert escape_markdown("a|b *c*\n_d_ <e> [f]") == r"a\|b \*c\* \_d\_ \<e> \[f]"


def test_latex_table(pair, capsys):
    text = output(capsys, *pair, "--format", "latex")
    assert r"50\% \& \_grass\_ & 1 & \textbf{100.00 $\pm$ 0.00} & 93.75 $\pm$ 6.25 \\" in text
    assert "Shadows & 0 & -- & -- \\\\\n\\midrule\nOA &  & " in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 5
    assert not re.search("[^\0-\x7f]", text)  # whatever the document's encoding


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
def test_latex_compiles(pair, tmp_path):
    assert main([*pair, "--out", str(tmp_path / "table.tex")]) == 0
    awkward = Table("c", ["[a", "b"], [["[x]", r"\&%$#_{}~^<>|±×−–κ"], ["*", ""]], "lr")
    (tmp_path / "awkward.tex").write_text(latex([awkward]), "utf-8")
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    document += r"\input{table}\input{awkward}\end{document}"
    (tmp_path / "paper.tex").write_text(document, "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_formats_hold_the_same_cells():
    table = Table("c", ["a", "b"], [["x", "1"], ["y", "2"]], "lr", frozenset({(1, 1)}), 1, ["n"])
    assert markdown([table]) == "c\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n| y | **2** |\n\n- n\n"
    assert "a & b \\\\\n\\midrule\nx & 1 \\\\\n\\midrule\ny & \\textbf{2} \\\\\n" in latex([table])


def break_json(directory: Path) -> None:
    path = directory / "report.json"
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda b: (b / "report.json").unlink(), "No such file or directory; name results"),
        (break_json, "damaged, this is no JSON"),
        (lambda b: (b / "report.json").write_bytes(b"\xff"), "damaged, this is no JSON"),
        (
            lambda b: (b / "report.json").write_text("[]", "utf-8"),
            "not the report of a finished run",
        ),
        (
            lambda b: (b / "report.json").write_text("{}", "utf-8"),
            "not the report of a finished run",
        ),
        (lambda b: change_report(b, oa=[0.5]), "oa and test_sha256 do not fit"),
        (lambda b: change_report(b, class_names=["Asphalt"]), "confusion does not fit"),
        (lambda b: change_report(b, per_class_mean=[0.5]), "the classes' figures do not fit"),
        (lambda b: change_report(b, oa=[]), "of a map without ground truth; there is no accuracy"),
        (lambda b: change_report(b, dataset="SV"), "of scene SV, but"),
        (lambda b: change_report(b, class_names=["x", "y", "z"]), "its classes are not those of"),
    ],
)
def test_wrong_directories_are_told_in_one_line(pair, harm, message, capsys):
    harm(Path(pair[1]))
    assert_one_line(pair, message, capsys)
    assert_one_line([pair[1], pair[0]], message.replace("SV, but", "UP, but"), capsys)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--format", "word"], "invalid choice: 'word'"),
        (["--names", "A"], "1 for 2 results directories"),
        (["--names", "A,A"], "needs a name of its own"),
        (["--names", "A,"], "needs a name of its own"),
        (["--reference", "C"], "not in the table, which holds SSRN (fast recipe); SSRN (paper"),
        (["--out", "/no/such/folder/table.md"], "cannot be written (No such file or directory)"),
        (["{first}"], "named twice"),
    ],
)
def test_wrong_flags_are_told_in_one_line(pair, flags, message, capsys):
    flags = [flag.format(first=pair[0]) for flag in flags]
    assert_one_line([*pair, *flags], message, capsys)


def assert_one_line(arguments: list[str], message: str, capsys) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_example_of_the_docs(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    text = page("docs/paper-tables.md")
    (example,) = re.findall(r"^python -m common table ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    arguments = shlex.split(example.replace("\\\n", ""))
    text = output(capsys, *arguments)
    row = next(line for line in text.splitlines() if line.startswith("| OA |"))
    for directory in (a for a in arguments if a.startswith("results/")):
        report = json.loads(Path(directory, "report.json").read_text("utf-8"))
        assert f"{100 * report['oa_mean']:.2f} ± {100 * report['oa_std']:.2f}" in row
    assert "Paired t-test" in text


def test_precision_and_f1_of_classes(pair, capsys):
    text = output(capsys, *pair, "--names", "A,B")
    # A: 7 of 8 and 5 of 8 of Asphalt right, none of the others taken for it.
    f1 = (2 * 7 / 15 + 2 * 5 / 13) / 2
    (row,) = [line for line in text.splitlines() if line.startswith("| Asphalt | 100.00")]
    assert row.startswith(f"| Asphalt | 100.00 | {100 * f1:.2f} |")
    assert "| Shadows | – | – | – | – |" in text


def test_costs_are_those_of_the_reports(pair, capsys):
    costs = {"parameters": 364168, "macs_per_pixel": 93266088, "macs_per_pixel_dense": None}
    costs |= {"peak_memory_mb": 512.4, "train_seconds_per_epoch": [1.0, 2.0]}
    change_report(Path(pair[0]), **costs, oa_ci95_blocks=[0.8, 0.9])
    text = output(capsys, *pair, "--names", "A,B")
    assert "| A | 364,168 | 93,266,088 | – | 1.50 | 512 |" in text
    assert " | 80.00–90.00 |" in text
    assert "| B | – | – | – | – | – |" in text  # of before there was more
    assert "neighbours are alike" in text


def test_a_scene_keeps_its_name(pair, capsys):
    for directory in pair:
        change_report(Path(directory), dataset="My_field", scene_name="My field")
    assert output(capsys, *pair).startswith("My field: test accuracies")
    text = output(capsys, *pair, "--format", "latex")
    assert r"\caption{My field: test" in text
    assert "My\\_field" not in text
