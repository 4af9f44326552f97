"""What the released weights of SSRN are tested on, and their test: see ``released.py``."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

import SSRN.SSRN
import SSRN.SSRNKeras
import SSRN.SSRNLeaky
from common.layers import spectral_length
from common.recipe import with_recipe
from common.reporting.report import build_report
from common.reporting.results_folder import (
    cleared_if_in_vain,
    output_directory,
    prepare_output,
    sole_writer,
    write_report,
    write_scene,
)
from common.run.experiment import add_page, announce, print_report, test_and_map
from common.samples.preprocess import fit_preprocessing
from common.samples.random_split import Split, authors_training_count, random_split
from common.scenes.nodata import has_data
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.device import choose_device, make_deterministic, peak_memory_mb
from common.system.errors import InputError
from common.system.memory import keep_freed_memory
from common.training.classifier import Trained
from common.training.cost import network_cost
from common.training.network_classifier import network_environment
from common.training.network_input import build, check_patch, scene_patches
from common.training.predict import classify, predict
from common.training.weights_file import Weights, save_weights
from SSRN.checkpoint_file import Released, read_released

UNKNOWN = dict.fromkeys(("epoch", "optimizer", "batch_size", "lr", "lr_decay", "recipe"))
TRAINED_WITH = {
    "SSRNKeras": SSRN.SSRNKeras.DEFAULTS,
    "SSRNLeaky": dataclasses.replace(
        SSRN.SSRNLeaky.DEFAULTS, split="authors", valid_split=None, seed=2, recipe=None
    ),
    "SSRN": dataclasses.replace(
        SSRN.SSRN.DEFAULTS, preprocess="standardise", valid_split=None, seed=0, **UNKNOWN
    ),
}
# The whole benchmark scenes, by their labelled pixels and classes: a user may give them any name.
BENCHMARKS = {(10_249, 16): "IN", (42_776, 9): "UP", (5_211, 13): "KSC"}
# Training and held-out pixels of each class in the later code's scripts.
LATER_COUNTS = {
    "IN": (
        (2, 27, 19, 4, 9, 14, 2, 10, 3, 24, 41, 14, 4, 18, 7, 2),
        (1, 28, 16, 5, 9, 14, 1, 9, 1, 19, 47, 12, 4, 24, 8, 2),
    ),
    "UP": ((31, 88, 10, 13, 8, 23, 9, 14, 4), (31, 86, 10, 16, 5, 24, 3, 20, 5)),
    "KSC": (
        (29, 9, 10, 10, 6, 9, 4, 17, 20, 16, 16, 19, 35),
        (29, 10, 10, 9, 6, 9, 4, 16, 20, 15, 16, 20, 36),
    ),
}
SEEDS_TRIED = range(10)  # for the one whose training pixels the later weights know


def later_split(labels: np.ndarray, counts: tuple[tuple[int, ...], ...], seed: int) -> Split:
    """Split as the later code does: so many training and held-out pixels of each class.

    Of a class's shuffled pixels the first train; after as many more as are held out, and but for
    as many as both at the end, the others test.

    Parameters
    ----------
    labels : int array (rows, cols)
    counts : two tuples of int, (C,)
        One of `LATER_COUNTS`.

    Returns
    -------
    Split
        Class by class; the code validated on its test pixels, so that ``val`` holds the pixels at
        the end, which it called so and never used.
    """
    generator = np.random.RandomState(seed)
    parts = []
    for label, (trained, held_out) in enumerate(zip(*counts, strict=True), start=1):
        indices = np.flatnonzero(labels == label)
        generator.shuffle(indices)
        both = trained + held_out
        parts.append((indices[:trained], indices[-both:], indices[both:-both]))
    return Split(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def tests_of(
    released: Released, settings: Settings, labels: np.ndarray, right: np.ndarray
) -> tuple[list[tuple[int, Split]], list[str]]:
    """Return the splits to test on, with their seeds, and what is to be said of the result.

    Parameters
    ----------
    settings : Settings
        Those that the form was trained with on this scene.
    labels : int array (rows, cols)
    right : bool array (rows * cols,)
        Which labelled pixels the network classifies right.
    """
    if settings.model == "SSRNKeras":
        share, val = settings.valid_split, settings.validation
        split = random_split(
            labels, share, settings.seed, validation=val, count=authors_training_count
        )
        return [(settings.seed, split)], [f"run_0: {_counted(settings.seed, split, right)}"]
    labelled = np.flatnonzero(labels)
    counts = LATER_COUNTS.get(_benchmark(labels, released.classes))
    if settings.model == "SSRN" or counts is None:
        nothing = np.empty(0, np.int64)
        note = (
            f"{right[labelled].sum()} of {len(labelled)} labelled pixels right; which of them the "
            f"network was trained on is not known: they are among these, so that this is no test "
            f"on pixels it has not seen"
        )
        return [(settings.seed, Split(train=nothing, val=nothing, test=labelled))], [note]
    return _later_tests(settings.seed, counts, labels, right)


def _later_tests(
    published: int, counts: tuple, labels: np.ndarray, right: np.ndarray
) -> tuple[list[tuple[int, Split]], list[str]]:
    """Test on the split of the published seed, and of the seed whose pixels the weights know."""
    first = later_split(labels, counts, published)
    notes = [
        f"run_0: the published script's {_counted(published, first, right)}; the script chose the "
        f"epoch by its accuracy on the test pixels"
    ]
    by_chance = right[labels.ravel() > 0].mean() ** len(first.train) * len(SEEDS_TRIED)
    for seed in SEEDS_TRIED:
        split = later_split(labels, counts, seed)
        if by_chance < 1e-3 and right[split.train].all() and not right[first.train].all():
            outside = np.setdiff1d(np.flatnonzero(labels), split.train)
            known = len(np.intersect1d(split.train, first.test))
            notes += [
                f"run_1: {_counted(seed, split, right)}: these are the pixels that the weights "
                f"were trained on. {known} of them are test pixels of run_0, whose figure is "
                f"therefore too high",
                f"outside the training pixels of seed {seed}: {right[outside].sum()} of "
                f"{len(outside)} labelled pixels right, {100 * right[outside].mean():.3f} %",
                "the mean of run_0 and run_1 means nothing: they are one network's",
            ]
            return [(published, first), (seed, split)], notes
    return [(published, first)], notes


def _counted(seed: int, split: Split, right: np.ndarray) -> str:
    """Say how many pixels of each set are right."""
    train, val, test = (f"{right[part].sum()} of {len(part)}" for part in vars(split).values())
    return (
        f"split of seed {seed}, {test} test pixels right, {100 * right[split.test].mean():.3f} %, "
        f"{train} training and {val} validation pixels"
    )


def _benchmark(labels: np.ndarray, classes: int) -> str | None:
    """Which benchmark scene's ground truth this is, None if it is another."""
    return BENCHMARKS.get((np.count_nonzero(labels), classes))


def test_released(settings: Settings) -> dict:
    """Test and map with the checkpoint ``settings.weights``; return what ``report.json`` holds.

    Raises
    ------
    InputError
        A flag, a file or the output directory cannot be used, or the checkpoint does not fit the
        scene.
    """
    keep_freed_memory()
    device = choose_device(settings.device)
    released = read_released(Path(settings.weights))
    settings = dataclasses.replace(settings, model=released.network.__name__)
    out = output_directory(settings)
    scene = load_scene(settings.dataset, settings.data_dir)
    _check_fit(released, scene, settings.weights)
    trained_with = _trained_with(settings, scene)
    shown = ("model", "dataset", "data_dir", "out", "overwrite", "weights", "device", "map")
    settings = dataclasses.replace(
        trained_with, **{name: getattr(settings, name) for name in shown}, precision="fp32"
    )
    check_patch(settings.patch, scene)
    make_deterministic()
    environment = network_environment(settings, device)
    with sole_writer(out):
        announce(scene, str(device), out)
        with cleared_if_in_vain(out):
            prepare_output(out)
            write_scene(out, scene)
            preprocessing = fit_preprocessing(
                settings, scene.cube, has_data(scene.cube, scene.nodata)
            )
            rows, _, bands = scene.cube.shape
            patches = scene_patches(scene, slice(0, rows), settings.patch, device, preprocessing)
            arguments = {"bands": bands, "classes": scene.classes, "kernels": released.kernels}
            model = build(released.network, arguments, "fp32", patches)
            model.load_state_dict(released.state)

            labelled, right = np.flatnonzero(scene.labels), np.zeros(scene.labels.size, bool)
            right[labelled] = predict(model, patches, labelled) == scene.labels.flat[labelled]
            splits, notes = tests_of(released, trained_with, scene.labels, right)
            weights = Weights(
                model=settings.model,
                network=arguments,
                settings=dataclasses.asdict(trained_with),
                seed=0,
                class_names=list(scene.class_names),
                colours=list(scene.colours),
                bands=list(scene.bands.used),
                file_bands=scene.bands.of,
                wavelengths=list(scene.wavelengths or ()),
                scene_name=scene.name,
                scene_shape=list(scene.cube.shape),
                labels_sha256=scene.labels_sha256(),
                split=splits[0][1],
                preprocessing=preprocessing,
                state=released.state,
                labels=list(scene.file_labels),
            )
            use = Trained(functools.partial(classify, model, patches), epochs=0, seconds=0.0)
            iterations = []
            for number, (seed, split) in enumerate(splits):
                directory = out / f"run_{number}"
                directory.mkdir(exist_ok=True)
                iteration = test_and_map(scene, use, split, settings, directory)
                peak = peak_memory_mb(environment["device"])
                iterations.append(dataclasses.replace(iteration, peak_memory_mb=peak))
                weights = dataclasses.replace(weights, seed=seed, split=split)
                save_weights(directory / "weights.pt", weights)
            settings = dataclasses.replace(settings, iter=len(splits))
            cost = network_cost(released.network, arguments, settings.patch)
            report = build_report(settings, scene, iterations, environment, cost)
            report["trained_with"] = weights.settings
            report["seeds"], report["notes"] = [seed for seed, _ in splits], notes
            write_report(out, report)
        add_page(out)
    print_report(report, out)
    return report


def _check_fit(released: Released, scene: Scene, file: str) -> None:
    """Raise InputError unless the checkpoint was made for scenes of such bands and classes."""
    bands = scene.cube.shape[2]
    if (spectral_length(bands), scene.classes) == (released.length, released.classes):
        return
    if not scene.classes:
        raise InputError(f"{scene.title}: no ground truth to test on")
    fitting = 2 * released.length + 5
    raise InputError(
        f"{file}: weights for {fitting} or {fitting + 1} bands and {released.classes} classes, but "
        f"{scene.title} has {bands} bands and {scene.classes} classes; name its scene with -d"
    )


def _trained_with(settings: Settings, scene: Scene) -> Settings:
    """Return the settings that the form's released weights were trained with on such a scene."""
    known = dataclasses.replace(
        TRAINED_WITH[settings.model],
        dataset=_benchmark(scene.labels, scene.classes) or scene.key,
    )
    if settings.model == "SSRNKeras":
        known = with_recipe(known, "authors")
    return dataclasses.replace(known, dataset=settings.dataset, iter=1)
