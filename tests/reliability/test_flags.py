"""Wrong flags: one line that names the flag and says what to do, status 2, nothing left on disk."""

import contextlib
import functools
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import A2S2KResNet.A2S2KResNet
import baselines.SVM
import SSRN.released
import SSRN.SSRN
import SSRN.SSRNKeras
from benchmarks import arithmetic, first_contact, run, scaling
from common.run import export_command, page_command
from common.run.cli import main, run_script
from common.run.map_scene import evaluate
from common.scenes import download
from common.system.device import describe_environment
from common.system.files import REPOSITORY
from common.tables import paper_table, readme_tables
from common.training.classifier import Cost, Trained
from figs import make_figures
from tests.forked import run_program

FAULT = "wrong flags, alone and together"
HOW = "every flag of every program with values that are out of range, no number, no name or missing"
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "A2S2KResNet": functools.partial(
        main, A2S2KResNet.A2S2KResNet.A2S2KResNet, A2S2KResNet.A2S2KResNet.DEFAULTS
    ),
    "SSRN": functools.partial(main, SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS),
    "SSRNKeras": functools.partial(main, SSRN.SSRNKeras.SSRNKeras, SSRN.SSRNKeras.DEFAULTS),
    "released": SSRN.released.main,
    "SVM": functools.partial(run_script, baselines.SVM.SVM, baselines.SVM.DEFAULTS),
    "download": download.main,
    "page": page_command.main,
    "paper_table": paper_table.main,
    "export": export_command.main,
    "results_table": readme_tables.main,
    "make_figures": make_figures.main,
    "benchmarks.run": run.main,
    "benchmarks.arithmetic": arithmetic.main,
    "benchmarks.scaling": scaling.main,
    "benchmarks.first_contact": first_contact.main,
}
NO_NUMBER = ["", "x", "nan", "-1", "1_0", "²", "٣", "１", "0x10", "9" * 5000, "1,5", "\n", "-x"]
SPLIT = {"-i": ["0", "1001", "1.5"], "-p": ["0", "1", "1000001"], "--per-class": ["0"]}
SPLIT |= {"--seed": ["4294967296"], "-vs": ["0", "1", "1.5", "inf", "-0.5"]}
SPLIT |= {"--validation": ["0", "1.0", "1.5", "0.0", "-0.5", "inf"]}
SPLIT = {flag: values + NO_NUMBER for flag, values in SPLIT.items()}
SPLIT |= {"--split": ["", "checker", "a\0b"], "--map": ["", "some", "ALL"]}
SPLIT |= {"-d": ["", "XY", "in.mat", "no.yaml", "a\0.yaml", "x" * 5000 + ".yaml", "."]}
SPLIT |= {"--out": ["", "a\0b", "\udcff"], "--data-dir": ["", "a\0b"]}
SPLIT |= {"--preprocess": ["", "PCA", "pca,none"], "--fit-on": ["", "test", "Scene"]}
SPLIT |= {"--cluster": ["0", "1001", "tcp://", "tcp://h", "udp://h:1", "tls://h:x", *NO_NUMBER]}
SPLIT |= {"--components": ["0", "1000001", *NO_NUMBER]}
TRAINING = {"-e": ["0", "1e3"], "-k": ["0", "1025"], "--batch-size": ["0", "1000001"]}
TRAINING |= {"--lr": ["0", "inf", "1e-400", "-1e-3"], "--lr-decay": ["0", "1.5", "-0.5"]}
TRAINING = {flag: values + NO_NUMBER for flag, values in TRAINING.items()}
TRAINING |= {"--class-weights": ["", "Balanced", "1,2"]}
TRAINING |= {"-o": ["", "adm", "Adam"], "--recipe": ["", "quick"], "--precision": ["", "fp16"]}
TRAINING |= {"--device": ["", "tpu", "cuda:99", "cuda:-1", "cuda:²", "CPU", "cuda:" + "9" * 5000]}
TRAINING |= {
    flag: ["", "none.pt", ".", "a\0b", "x" * 5000] for flag in ("--weights", "--start-from")
}
DEVICE = {"--device": ["", "tpu", "cuda:99"], "--out": ["", "a\0b", "/dev/null/x"]}
WRONG = {
    "A2S2KResNet": SPLIT | TRAINING | {"--attention": ["", "none"]},
    "SSRN": SPLIT | TRAINING,
    "SSRNKeras": SPLIT | TRAINING,
    "SVM": SPLIT,
    "released": {flag: SPLIT[flag] for flag in ("--map", "--out", "--data-dir")}
    | {"--device": TRAINING["--device"]},
    "download": {"--data-dir": ["", "a\0b", "x" * 300]},
    "paper_table": {"--format": ["", "html"], "--out": ["", "t.txt", "t", "a\0b.md"]},
    "benchmarks.run": DEVICE
    | {flag: ["0", *NO_NUMBER] for flag in ("--rounds", "--epochs", "--protocol-rounds")}
    | {"--models": ["", "SVM"], "--only": ["", "all"]},
    "benchmarks.arithmetic": DEVICE,
    "benchmarks.scaling": DEVICE | {"--largest": ["0", "2001", *NO_NUMBER]},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, toy_data, monkeypatch):
    """A folder of one's own to start programs in, and the toy scene where scenes are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_DATA_DIR", str(toy_data))
    return tmp_path


def files() -> list[Path]:
    """Whatever a program may have left: where it was started, and where results go by default."""
    return sorted([*Path().rglob("*"), *(REPOSITORY / "results").glob("*")])


def outcome(program: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = program(arguments)
    return status, output.getvalue(), errors.getvalue()


def refused(program: str, arguments: list[str], *named: str) -> None:
    """Assert that a program refuses its arguments in a line that holds all of `named`."""
    before = files()
    status, output, errors = outcome(PROGRAMS[program], arguments)
    assert (status, output) == (2, ""), (arguments, errors)
    assert re.fullmatch(r"[\w. -]+: error: [^\n]{8,2500}\n", errors), (arguments, errors)
    for name in named:
        assert name in errors, (arguments, errors)
    assert files() == before, arguments


@pytest.mark.parametrize("program", WRONG)
def test_wrong_values(program, tried):
    times = 0
    needed = ["nowhere"] if program in ("paper_table", "released") else []
    for flag, values in WRONG[program].items():
        for value in values:
            shown = [] if len(value) > 1000 or not value.isprintable() else [value]
            if not value.startswith("-"):  # which looks like a flag, and is told as one
                refused(program, [*needed, flag, value], flag, *shown)
            refused(program, [*needed, f"{flag}={value}"], flag, *shown)
            times += 2
        for missing in ([flag], [flag, "-x"]):
            refused(program, [*needed, *missing], flag, "expected")
    tried(FAULT, HOW, times)


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_and_abbreviated_flags(program):
    needed = {"page": ["a"], "paper_table": ["a"], "export": ["a", "b"], "released": ["a"]}.get(
        program, []
    )
    for flag in [
        "--colour",
        "--colour=red",
        "-z",
        "--he",
        "--ou",
        "--ou=x",
        "--d",
        "--dev",
        "--ov",
    ]:
        refused(program, [*needed, flag], "unrecognized arguments", flag)


TOGETHER = {
    "--per-class and -vs both say": ["--per-class", "5", "-vs", "0.9"],
    "-vs: the maps of --split say": ["--split", "a.mat", "b.mat", "-vs", "0.8"],
    "--per-class: the maps of --split say": ["--split", "a.mat", "b.mat", "--per-class", "5"],
    "--split disjoint a.mat: use random": ["--split", "disjoint", "a.mat"],
    "--split a.mat: use random, authors, disjoint or TRAIN_MAP TEST_MAP": ["--split", "a.mat"],
    "--split a b c: use random": ["--split", "a", "b", "c"],
    "a.mat: no such file": ["--split", "a.mat", "b.mat"],
    "--resume: say with --out": ["--resume"],
    "--overwrite: say with --out": ["--overwrite"],
    "--resume and --overwrite do not go": ["--resume", "--overwrite", "--out", "x"],
    "use a larger -vs": ["-vs", "0.2"],
    "labelled pixels train and 5000 validate": ["--validation", "5000"],
    "--validation: a tenth of the": ["--split", "a.mat", "b.mat", "--validation", "5"],
    "PaviaU.mat: no such file; fetch it with: python -m common download UP --data-dir 'no where'": [
        "--data-dir",
        "no where",
    ],
    "--data-dir nowhere: not a directory": ["-d", "in", "--data-dir", "nowhere"],
    "--data-dir /dev/null: not a directory": ["--data-dir", "/dev/null"],
    "unrecognized arguments: SV": ["SV"],
    "--components 61: the scene has 60 bands; use --components 60 or less": [
        *["--preprocess", "pca", "--components", "61"]
    ],
    "--components 9: --preprocess none has no components; use --preprocess pca": [
        *["--preprocess", "none", "--components", "9"]
    ],
    "--components 15: PCA of 15 training pixels gives 14 at most; use --components 14 or less": [
        *["--preprocess", "pca", "--components", "15", "--fit-on", "train", "--per-class", "3"]
    ],
}
OF_NETWORKS = {
    "--lr-decay 0.5: --recipe fast has its own": ["--recipe", "fast", "--lr-decay", "0.5"],
    "--weights none.pt: no such file": ["--weights", "none.pt", "--out", "x"],
    "-p 40: patches wider than the scene, 40×36 pixels": ["-p", "40"],
    "--components 5: too few for the convolutions of": ["--components", "5"],
    "use --components 7 or more": ["--components", "6"],
    "--probabilities: --map none maps no pixel": ["--probabilities", "--map", "none"],
    "--start-from none.pt: no such file": ["--start-from", "none.pt"],
}


@pytest.mark.parametrize("program", ["A2S2KResNet", "SSRN", "SVM"])
def test_wrong_combinations(program, tried):
    wrong = TOGETHER | (OF_NETWORKS if program != "SVM" else {})
    for message, flags in wrong.items():
        refused(program, ["-d", "up", *flags], message)
    tried(FAULT, HOW, len(wrong))


def test_flags_of_other_models():
    for flag, (value, *_) in (TRAINING | {"--attention": ["paper"]}).items():
        refused("SVM", [flag, value], f"unrecognized arguments: {flag}")
    refused("SSRN", ["--attention", "paper"], "unrecognized arguments: --attention")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_no_gpu():
    for program, name in [("SSRN", "cuda"), ("benchmarks.arithmetic", "cuda:0")]:
        refused(program, ["--device", name], f"--device {name}: PyTorch sees 0", "--device cpu")


OF_TOOLS = [
    ("page", ["nowhere"], "nowhere: no report.json"),
    ("page", ["file"], "file: no report.json"),
    ("page", [""], "RESULTS_DIRECTORY"),
    ("paper_table", ["nowhere"], "nowhere/report.json: No such file"),
    ("paper_table", ["nowhere", "--out", "t.txt"], ".md, .tex, .csv"),
    ("export", ["none.pt", "x.onnx"], "none.pt: no such file"),
    ("export", ["none.pt", "x.pt"], "x.pt: the name of an ONNX file must end in .onnx"),
    ("export", ["none.pt", "nowhere/x.onnx"], "nowhere/x.onnx: no such folder"),
    ("download", ["XX"], "unknown scene 'XX': there are IN, UP, KSC, SV"),
    ("download", ["IN", "--data-dir", "file"], "cannot write file: "),
    ("benchmarks.run", ["--out", "file"], "--out file: cannot be made"),
]


def test_paths_that_cannot_be_used(tried):
    Path("file").write_text("mine", "utf-8")
    Path("empty.pt").touch()
    Path("empty.yaml").touch()
    Path("folder.yaml").mkdir()
    wrong = [
        (["--out", "file"], "--out file: cannot be written"),
        (["--out", "file/out"], "--out file/out: cannot be written"),
        (["--out", "/proc/nothing/here"], "--out /proc/nothing/here: cannot be written"),
        (["--out", "x/" * 3000], "x/x: File name too long"),
        (["--out", "."], "--out .: already exists; choose another"),
        (["--weights", "empty.pt"], "--weights empty.pt: not a weights file"),
        (["--weights", "folder.yaml"], "--weights folder.yaml: a folder, not a file"),
        (["--weights", "file/x.pt"], "--weights file/x.pt: no such file"),
        (["--start-from", "empty.pt"], "--start-from empty.pt: not a weights file"),
        (["-d", "empty.yaml"], "empty.yaml: must hold lines"),
        (["-d", "folder.yaml"], "folder.yaml: a folder, not a file"),
        (["--data-dir", "file"], "--data-dir file: not a directory"),
        (["--split", "empty.pt", "file"], "empty.pt: "),
        (["--data-dir", "x/" * 3000], "x/x: File name too long"),
    ]
    for flags, message in wrong:
        refused("A2S2KResNet", ["-d", "UP", "-p", "2", *flags], message)
    for program, arguments, message in OF_TOOLS:
        refused(program, arguments, message)
    assert Path("file").read_text("utf-8") == "mine"
    tried(
        "paths that cannot be used",
        "results, scenes, weights and tables where there is a file, a folder, nothing or no room",
        len(wrong) + len(OF_TOOLS),
    )


@pytest.fixture
def closed_folder(toy_data, monkeypatch):
    """A folder with files and folders that may not be read or written, not by a superuser either.

    Who runs the test as a superuser is nobody in it.
    """
    folder = Path(tempfile.mkdtemp())
    for name in ("PaviaU.mat", "PaviaU_gt.mat"):
        shutil.copyfile(toy_data / name, folder / name)
    for name in ("weights.pt", "scene.yaml"):
        (folder / name).touch(mode=0)
    for name, mode in {"closed": 0, "read-only": 0o555, ".": 0o755}.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(mode)
    monkeypatch.chdir(folder)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    (folder / "closed").chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users and permissions")
def test_without_permission(closed_folder, tried):
    folder, closed = closed_folder, "Permission denied"
    wrong = [
        (["--data-dir", f"{folder}/closed"], f"{folder}/closed/PaviaU.mat: {closed}"),
        (["--weights", f"{folder}/weights.pt"], f"{folder}/weights.pt: "),
        (["-d", f"{folder}/scene.yaml"], f"{folder}/scene.yaml: cannot be read ({closed})"),
        (["--out", f"{folder}/closed/x"], f"{folder}/closed/x: {closed}"),
        (["--out", f"{folder}/read-only/x"], f"--out {folder}/read-only/x: cannot be written"),
    ]
    for flags, message in wrong:
        refused("SSRN", ["-d", "UP", "-p", "2", "--data-dir", str(folder), *flags], message)
    how = "folders and files without permission to read or write"
    tried("files that one may not read or write", how, len(wrong))


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["A2S2KResNet/A2S2KResNet.py", "-vs", "1.5"], "A2S2KResNet.py: error: argument -vs"),
        (
            ["baselines/SVM.py", "--recipe", "fast"],
            "SVM.py: error: unrecognized arguments: --recipe",
        ),
        (["-m", "common", "page", "no"], "python -m common page: error: no: no report.json"),
        (["figs/make_figures.py", "x"], "make_figures.py: error: unrecognized arguments: x"),
    ],
)
def test_as_programs(command, line, tmp_path):
    done = run_program(command, cwd=REPOSITORY, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(line)


class Majority:
    """The simplest classifier: whatever is not trained on is of the commonest class."""

    def __init__(self, settings, scene) -> None:
        self.scene, self.facts, self.cost = scene, {}, Cost()
        self.environment = describe_environment(torch.device("cpu"))

    def fit(self, tasks) -> Iterator[Trained]:
        for task in tasks:
            commonest = np.bincount(self.scene.labels.flat[task.split.train]).argmax()
            yield Trained(lambda pixels, c=commonest: (np.full(len(pixels), c), None), 1, 0.0)


RIGHT = {
    "-d": ["UP", "up"],
    "-i": ["1", "2"],
    "-p": ["2", "3"],
    "-vs": ["0.9", "0.5"],
    "--per-class": ["3", "30"],
    "--seed": ["0", "4293967296"],
    "--split": ["random", "disjoint"],
    "--map": ["labelled", "all", "none"],
    "--out": ["out"],
    "-e": ["1", "1000000"],
    "-k": ["1", "1024"],
    "-o": ["adam", "sgd"],
    "--attention": ["paper", "official"],
    "--batch-size": ["1", "1000000"],
    "--lr": ["1e-300", "1e300"],
    "--lr-decay": ["1", "1e-9"],
    "--recipe": ["paper", "fast"],
    "--precision": ["auto", "fp32", "bf16"],
    "--device": ["auto", "cpu"],
    "--preprocess": ["pca", "none"],
    "--components": ["1", "60"],
    "--fit-on": ["scene", "train"],
    "--class-weights": ["none", "balanced"],
}
ONE_FLAG = st.sampled_from(sorted(WRONG["A2S2KResNet"])).flatmap(
    lambda flag: st.one_of(
        *3 * [st.sampled_from(RIGHT.get(flag, [""])).map(lambda value: (flag, value))],
        st.sampled_from(WRONG["A2S2KResNet"][flag]).map(lambda value: (flag, value)),
        st.just((flag,)),
    )
)
FLAGS = st.lists(
    ONE_FLAG | st.sampled_from([("--resume",), ("--overwrite",), ("-h",), ("x",), ("--",)]),
    max_size=6,
)


def test_flags_at_random(often, tried, workplace):
    times = often(60, 3000)
    weights = functools.partial(evaluate, A2S2KResNet.A2S2KResNet.A2S2KResNet)
    program = functools.partial(
        run_script, Majority, A2S2KResNet.A2S2KResNet.DEFAULTS, use_weights=weights
    )
    statuses = set()

    @settings(
        max_examples=times,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(FLAGS)
    def holds(flags: list[tuple[str, ...]]) -> None:
        for earlier in workplace.iterdir():
            shutil.rmtree(earlier)
        before = files()
        arguments = ["-d", "UP", "-i", "1", "--out", "out"]
        arguments += [word for flag in flags for word in flag]
        try:
            status, output, errors = outcome(program, arguments)
        except SystemExit as help_shown:
            assert help_shown.code == 0
            assert "-h" in arguments
            return
        statuses.add(status)
        if status == 0:
            assert "OA %" in output
            assert len(list(workplace.glob("*/report.json"))) == 1
        else:
            assert (status, output, files()) == (2, "", before)
            assert re.fullmatch(r"[\w. -]+: error: [^\n]{8,2500}\n", errors)

    holds()
    assert statuses == {0, 2}
    tried("flags at random, right and wrong ones", "up to six at a time, on a toy scene", times)
