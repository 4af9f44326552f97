"""The file of a study: which training scripts run with which flags on which scenes.

It is YAML::

    name: The systems of the SSRN paper
    flags: --map labelled            # of every run
    scenes: {IN: -vs 0.8, UP: -vs 0.9}
    methods:
      SVM: baselines/SVM.py --input patch
      SSRN: SSRN/SSRN.py --recipe authors
    published:                       # OA, AA and kappa in per cent; null where there is none
      source: where they are from
      pixels: labelled               # all of them; without it, those tested on
      IN: {SVM: [84.17, 70.51, 81.69]}

With ``vary`` in the place of ``published`` it gives learning curves: every method is run with each
of its flags, and with those of each split, where ``splits`` names some::

    splits: {random: --split random, disjoint: --split disjoint}
    vary: {1 %: -vs 0.99, 10 %: -vs 0.9}  # or series, each with a line: {share: {1 %: …}, …}

With ``pairs``, of points or methods, paired t-tests of these are written instead of a figure::

    vary: {plain: null, balanced: --class-weights balanced}
    pairs: [[balanced, plain]]
"""

import dataclasses
import hashlib
import importlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from common.reporting.resume import WITHOUT_EFFECT
from common.run.cli import read_settings
from common.settings import Settings
from common.system.errors import InputError
from common.system.files import REPOSITORY, check_is_file, file_sha256
from common.tables.curve_points import Pair
from common.tables.study_table import PIXELS, Published

KEYS = ("name", "flags", "scenes", "methods", "published", "splits", "vary", "pairs")
LARGEST_FILE = 1 << 17  # bytes


class Varied(NamedTuple):
    """A point of the key ``vary`` on a split of the key ``splits``; empty without these keys."""

    split: str = ""
    series: str = ""
    point: str = ""
    flags: str = ""

    def title(self, run: str) -> str:
        """Name a run at this point, in a line."""
        return ", ".join(filter(None, (run, self.split, self.point)))


@dataclass(frozen=True)
class Run:
    """One training script on one scene."""

    method: str
    scene: str
    script: str
    flags: tuple[str, ...]
    settings: Settings
    varied: Varied

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return self.varied.title(f"{self.method} on {self.scene}")

    def command(self) -> str:
        """The training script with its flags, quoted for a shell."""
        return shlex.join([self.script, *self.flags])

    def directory(self, runs: Path) -> Path:
        """Where its results go: named after all that has an effect on them."""
        flags = dataclasses.asdict(self.settings)
        flags = {name: value for name, value in flags.items() if name not in WITHOUT_EFFECT}
        if flags["start_from"] and Path(flags["start_from"]).is_file():
            flags["start_from"] = file_sha256(Path(flags["start_from"]))
        digest = hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:12]
        return runs / f"{self.settings.model}_{Path(self.scene).stem}_{digest}"


@dataclass(frozen=True)
class Study:
    """What a study's file says; `figures`, the published ones, by scene and method."""

    name: str
    runs: tuple[Run, ...]
    figures: dict[str, dict[str, tuple]]
    published: Published
    varies: bool
    pairs: tuple[Pair, ...] = ()


def read_study(path: Path) -> Study:
    """Read a study's file; raises InputError where it says what cannot be run."""
    check_is_file(path, largest=LARGEST_FILE)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not {"scenes", "methods"} <= content.keys():
        raise InputError(f"{path}: must hold 'scenes: …' and 'methods: …'")
    if unknown := [key for key in content if key not in KEYS]:
        raise InputError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(KEYS)}")
    scenes, methods = content["scenes"], content["methods"]
    for key, entry in (("scenes", scenes), ("methods", methods)):
        if not isinstance(entry, dict) or not entry:
            raise InputError(f"{path}: '{key}' must hold lines 'name: flags'")
    entries = content.get("published") or {}
    if not isinstance(entries, dict):
        raise InputError(f"{path}: 'published' must hold scenes, and 'source: …'")
    pixels = entries.get("pixels", "test")
    if pixels not in PIXELS:
        raise InputError(f"{path}: 'pixels' of 'published' must be {' or '.join(PIXELS)}")
    runs = tuple(
        _run(path, f"{method}", f"{command}", f"{scene}", (content.get("flags"), flags), varied)
        for scene, flags in scenes.items()
        for method, command in methods.items()
        for varied in _varied(path, content)
    )
    figures = _published(path, entries, runs)
    published = Published(str(entries.get("source", "")), pixels)
    name = str(content.get("name") or path.stem)
    pairs = _pairs(path, content, runs)
    return Study(name, runs, figures, published, "vary" in content, pairs)


def _pairs(path: Path, content: dict, runs: tuple[Run, ...]) -> tuple[Pair, ...]:
    """Read the key ``pairs``: two methods each, or two points."""
    if "pairs" not in content:
        return ()
    if "vary" not in content:
        raise InputError(
            f"{path}: 'pairs' goes with 'vary' only; python -m common table RUN RUN tests two runs"
        )
    pairs = content["pairs"]
    known = {run.method for run in runs}, {run.varied.point for run in runs}
    if not isinstance(pairs, list) or not pairs:
        raise InputError(f"{path}: 'pairs' must list pairs [A, B] of methods or points")
    for pair in pairs:
        two = isinstance(pair, list) and len({f"{name}" for name in pair}) == len(pair) == 2
        if not two or not any({f"{name}" for name in pair} <= names for names in known):
            raise InputError(f"{path}: 'pairs' has {pair!r}: neither two methods nor two points")
    return tuple(Pair(*map(str, pair)) for pair in pairs)


def _varied(path: Path, content: dict) -> list[Varied]:
    """Read the keys ``splits`` and ``vary``: every point of every split."""
    if "vary" not in content:
        if "splits" in content:
            raise InputError(f"{path}: 'splits' goes with 'vary' only; use 'flags' or 'scenes'")
        return [Varied()]
    if "published" in content:
        raise InputError(f"{path}: 'published' does not go with 'vary'; leave one out")
    splits, series = content.get("splits", {"": ""}), content["vary"]
    if isinstance(series, dict) and not any(isinstance(points, dict) for points in series.values()):
        series = {"": series}
    if not isinstance(splits, dict) or not splits:
        raise InputError(f"{path}: 'splits' must hold lines 'name: flags'")
    if not isinstance(series, dict) or not all(p and isinstance(p, dict) for p in series.values()):
        raise InputError(f"{path}: 'vary' must hold lines 'name: flags', or series of such lines")
    names = [f"{point}" for points in series.values() for point in points]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"{path}: 'vary' has {twice[0]!r} twice; each point needs a name of its own"
        )
    return [
        Varied(f"{split}", f"{name}", f"{point}", f"{of_split or ''} {flags or ''}")
        for split, of_split in splits.items()
        for name, points in series.items()
        for point, flags in points.items()
    ]


def _run(path: Path, method: str, command: str, scene: str, common: tuple, varied: Varied) -> Run:
    """Read one run's flags as its script does; `common` are the study's and the scene's."""
    flags = " ".join(f"{words}" for words in (*common, varied.flags) if words)
    try:
        words, given = shlex.split(command), shlex.split(flags)
    except ValueError as error:  # a quote that is not closed
        raise InputError(f"{path}: {method}: {command} {flags}: {error}") from error
    script, *own = words or [""]
    file = REPOSITORY / script
    module = script.removesuffix(".py").replace("/", ".")
    if not file.is_file() or not script.endswith(".py"):
        raise InputError(f"{path}: {method}: {script}: no training script of this repository")
    if scene.endswith((".yaml", ".yml")):
        scene = str(path.parent / scene)
    given = ("-d", scene, *given, *own)
    defaults = getattr(importlib.import_module(module), "DEFAULTS", None)
    if defaults is None:
        raise InputError(f"{path}: {method}: {script}: trains nothing")
    try:
        settings = read_settings(defaults, list(given))
    except InputError as error:
        title = varied.title(f"{method} on {scene}")
        raise InputError(f"{path}: {title}: {error}") from error
    if settings.out or settings.weights or settings.cluster:
        raise InputError(
            f"{path}: {method}: leave --out, --weights and --cluster out; a study says them"
        )
    return Run(method, scene, script, given, settings, varied)


def _published(path: Path, entries: dict, runs: tuple[Run, ...]) -> dict[str, dict[str, tuple]]:
    """Check the published figures: three numbers, or null, for methods and scenes that are run."""
    known = {(run.scene, run.method) for run in runs}
    found: dict[str, dict[str, tuple]] = {}
    for scene, methods in entries.items():
        if scene in ("source", "pixels"):
            continue
        if not isinstance(methods, dict):
            raise InputError(f"{path}: 'published' must hold methods for {scene}")
        for method, figures in methods.items():
            if (scene, method) not in known:
                raise InputError(f"{path}: 'published' has {method} on {scene}, which is not run")
            three = isinstance(figures, list) and len(figures) == 3
            if not three or not all(isinstance(f, int | float | None) for f in figures):
                raise InputError(f"{path}: published figures of {method} on {scene} must be three")
            found.setdefault(scene, {})[method] = tuple(figures)
    return found
