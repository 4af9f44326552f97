"""The results directory: made once, never overwritten unasked, every file written whole."""

import contextlib
import io
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from common.reporting.pictures import enlarged, false_colour, label_png, png
from common.reporting.report import report_json
from common.reporting.report_text import report_text
from common.scenes.map_file import Legend, map_writer
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError
from common.system.files import (
    REPOSITORY,
    UNFINISHED,
    locked,
    put_in_place,
    remove_unfinished,
    write_file,
)
from common.system.provenance import typed_command, with_output
from common.training.checkpoint import FILES as CHECKPOINTS

RUN_FILES = (
    "iteration.npz",
    *CHECKPOINTS,
    "weights.pt",
    "history.csv",
    "pretraining.csv",
    "grid.csv",
    "split.npy",
    "map.png",
    "map_large.png",
    "map.npy",
    "map.tif",
    "map.tif.aux.xml",
    "map.hdr",
    "map.img",
    "confidence.npy",
    "confidence.tif",
    "confidence.hdr",
    "confidence.img",
    "probabilities.npy",
    "probabilities.tif",
    "probabilities.hdr",
    "probabilities.img",
    "attention.npz",
)
WAIT = 1.0  # seconds between two looks at a directory that another worker writes to
FIGURES = ("learning_curves", "confusion", "maps", "attention")


def output_directory(settings: Settings) -> Path:
    """Where the results go; nothing is made or removed yet.

    Raises
    ------
    InputError
        The directory holds something and neither ``--overwrite`` nor ``--resume`` was given, or
        to overwrite it would remove the very weights that are to be used.
    """
    if settings.overwrite and settings.out is None:
        raise InputError("--overwrite: say with --out which results to replace")
    if settings.resume:
        if settings.out is None:
            raise InputError("--resume: say with --out which run is to go on")
        if settings.overwrite or settings.weights:
            other = "--overwrite" if settings.overwrite else "--weights"
            raise InputError(f"--resume and {other} do not go together; leave one out")
    started = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    scene = Path(settings.dataset).stem[:60]  # a name may have 255 bytes in all
    default = REPOSITORY / "results" / f"{settings.model}_{scene}_{started}"
    out = default if settings.out is None else Path(settings.out)
    anew = settings.out is not None and not (settings.overwrite or settings.resume)
    if anew and out.is_dir() and any(out.iterdir()):
        raise InputError(
            f"--out {out}: already exists; choose another, or add --resume or --overwrite"
        )
    uses = {settings.weights: "to be evaluated", settings.start_from: "to start from"}
    for file, use in uses.items():
        if file and out.resolve() in Path(file).resolve().parents:
            raise InputError(f"--out {out}: holds the weights {use}; choose another")
    return out


def prepare_output(out: Path) -> None:
    """Clear the results directory of an earlier run's files and of no others."""
    for name in (
        "run.json",
        "report.txt",
        "report.json",
        "report.html",
        "gt.npy",
        "gt.png",
        "false_color.png",
    ):
        (out / name).unlink(missing_ok=True)
    for name in FIGURES:
        for kind in ("png", "pdf"):
            (out / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
    for run in filter(Path.is_dir, out.glob("run_*")):
        for name in RUN_FILES:
            (run / name).unlink(missing_ok=True)
        if not any(run.iterdir()):
            run.rmdir()


@contextlib.contextmanager
def sole_writer(out: Path, numbered: bool = False) -> Iterator[Path]:
    """Make the results directory if need be, and keep other processes from writing there.

    What a killed process left half written, under hidden names, is removed.  Errors are noted
    with where the results so far are, once there are any, interruptions with the command that goes
    on, or starts again.

    Parameters
    ----------
    numbered : bool
        Whether to make a new directory in any case, with a number after its name where another
        run has that one.

    Yields
    ------
    Path
        The directory.

    Raises
    ------
    InputError
        Another process is writing there, or the directory cannot be written.
    """
    try:
        with _directory(out, numbered) as out, locked(out / ".lock") as alone:
            if not alone:
                raise InputError(f"--out {out}: another process is writing there")
            for folder in (out, *filter(Path.is_dir, out.glob("run_*"))):
                remove_unfinished(folder)
            try:
                yield out
            except KeyboardInterrupt as interruption:
                trains = (out / "run.json").is_file()
                flag, what = ("--resume", "go on") if trains else ("--overwrite", "start again")
                command = with_output(typed_command(), str(out), flag)
                interruption.add_note(f"{what} with: {command}")
                raise
            except (InputError, MemoryError, RuntimeError) as error:
                if (out / "run.json").is_file() and str(out) not in str(error):
                    error.add_note(f"results so far: {out}")
                raise
    except OSError as error:
        place, target = Path(error.filename or out).resolve(), out.resolve()
        if not (place.is_relative_to(target) or target.is_relative_to(place)):
            raise
        reason = error.strerror or error
        raise InputError(
            f"--out {out}: cannot be written ({reason}); what is there is whole"
        ) from error


@contextlib.contextmanager
def sole_worker(run: Path) -> Iterator[None]:
    """Keep other workers of a cluster from an iteration's directory; wait for one that is there."""
    told = False
    while True:
        with locked(run / ".lock") as alone:
            if alone:
                yield
                return
        if not told:
            print(f"{run}: waits for a worker that was cut off and still writes", file=sys.stderr)
        told = True
        time.sleep(WAIT)


@contextlib.contextmanager
def _directory(out: Path, numbered: bool) -> Iterator[Path]:
    """Make the directory; where an error leaves it empty, remove it again unless it was there."""
    there = out.exists() and not numbered
    if numbered:
        out = _made_anew(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield out
    except BaseException:
        if not there:
            with contextlib.suppress(OSError):
                out.rmdir()  # which it does where it is empty
        raise


@contextlib.contextmanager
def cleared_if_in_vain(out: Path) -> Iterator[None]:
    """Clear the directory again where an error ends the run before there is anything to keep.

    So it does not stand in the next try's way.  What an interrupted run has left is kept.
    """
    try:
        yield
    except Exception:
        kept = ("iteration.npz", "weights.pt", *CHECKPOINTS)
        found = (run / name for run in out.glob("run_*") for name in kept)
        if not any(path.is_file() for path in (out / "report.json", *found)):
            prepare_output(out)
        raise


def _made_anew(out: Path) -> Path:
    """Make a directory that no other process has made: `out`, or one with a number after it."""
    for number in itertools.count(1):
        path = out if number == 1 else out.with_name(f"{out.name}_{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError("numbers never end")


def write_scene(out: Path, scene: Scene) -> None:
    """Write ``false_color.png`` and, if there is ground truth, ``gt.png`` and ``gt.npy``.

    Until there is more to say, ``report.txt`` says that there is not.
    """
    if not (out / "report.json").is_file():
        write_file(out / "report.txt", "No iteration has finished yet.\n")
    write_file(out / "false_color.png", png(false_colour(scene)))
    if scene.labels.any():
        values = scene.values_in_maps
        labels = values.astype(np.min_scalar_type(values[-1]))[scene.labels]
        write_array(out / "gt.npy", labels)
        write_file(out / "gt.png", label_png(labels, scene.colours, values))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_file(path, buffer.getvalue())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write several arrays as .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())


@contextlib.contextmanager
def map_files(
    run: Path,
    scene: Scene,
    wanted: bool = True,
    *,
    with_confidence: bool,
    with_probabilities: bool = False,
) -> Iterator[Callable[..., None]]:
    """Write an iteration's classification map, a block of rows at a time.

    Yields ``write_rows(start, labels, confidence, probabilities)``, which takes arrays (n, cols),
    (n, cols) and (n, cols, C), with labels 0..C; the last two may be left out where they are not
    written.  When the block is left, ``map.npy`` (0 = not classified, else the ground truth file's
    own labels), ``confidence.npy``, ``probabilities.npy`` and the pictures ``map.png`` and
    ``map_large.png`` are there, whole; for a georeferenced scene ``map.tif`` or ``map.hdr`` and
    ``map.img`` too, and the same of confidence and probabilities.  Nothing is written unless
    `wanted`.
    """
    if not wanted:
        yield lambda start, *arrays: None
        return
    shape, values = scene.labels.shape, scene.values_in_maps
    values = values.astype(np.min_scalar_type(values[-1]))
    with contextlib.ExitStack() as stack:

        def writers(name: str, shape: tuple[int, ...], dtype: np.dtype, **meaning) -> list:
            found = [stack.enter_context(_npy_rows(run / f"{name}.npy", shape, dtype))]
            if scene.georeference is not None:
                georeferenced = map_writer(run / name, shape[:2], scene.georeference, **meaning)
                found.append(stack.enter_context(georeferenced))
            return found

        legend = Legend(tuple(values[1:].tolist()), scene.class_names, scene.colours)
        of_labels, floats = writers("map", shape, values.dtype, legend=legend), np.dtype(np.float32)
        of_confidence = writers("confidence", shape, floats) if with_confidence else []
        of_classes = []
        if with_probabilities:
            shape = (*shape, scene.classes)
            of_classes = writers("probabilities", shape, floats, bands=scene.class_names)

        def write_rows(
            start: int,
            labels: np.ndarray,
            confidence: np.ndarray | None = None,
            probabilities: np.ndarray | None = None,
        ) -> None:
            for write in of_labels:
                write(start, values[labels])
            for write in of_confidence:
                write(start, confidence)
            for write in of_classes:
                write(start, probabilities)

        yield write_rows
    label_map = np.load(run / "map.npy", mmap_mode="r")
    write_file(run / "map.png", label_png(label_map, scene.colours, values))
    write_file(run / "map_large.png", label_png(enlarged(label_map), scene.colours, values))


@contextlib.contextmanager
def _npy_rows(
    path: Path, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Write an .npy file by rows; it appears when the block is left, or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{UNFINISHED}{path.name}.") as folder:
        temporary = Path(folder, path.name)
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            first, row = file.tell(), math.prod(shape[1:]) * dtype.itemsize
            file.truncate(first + shape[0] * row)

            def write_rows(start: int, rows: np.ndarray) -> None:
                file.seek(first + start * row)
                file.write(rows.astype(dtype).tobytes())

            yield write_rows
        put_in_place(temporary, path)


def write_report(out: Path, report: dict) -> None:
    """Write ``report.json`` and ``report.txt``."""
    write_file(out / "report.json", report_json(report))
    write_file(out / "report.txt", report_text(report))
