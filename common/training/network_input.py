"""What a network takes of a scene: patches of a width, preprocessing; and the network for them."""

import dataclasses
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from common.fast import prepare, use_fast_form
from common.recipe import Recipe, half_width, recipe_of
from common.samples.patches import Patches
from common.samples.preprocess import Preprocessing
from common.scenes.nodata import check_for_unstated_nodata, has_data, valid_pixels
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.device import (
    PRECISIONS,
)
from common.system.errors import InputError

T = TypeVar("T")
FARTHEST = 1e10  # standard deviations of a component: nothing can be learnt of what lies beyond


def check_patch(half_width: int, scene: Scene, network: type[nn.Module] = nn.Module) -> None:
    """Raise InputError where every patch would hold the whole scene with zeros all around.

    Or where patches are smaller than the network's `least_half_width`, if it has one.
    """
    least = getattr(network, "least_half_width", 2)
    if half_width < least:
        raise InputError(
            f"-p {half_width}: {network.__name__} needs patches of {2 * least + 1}×{2 * least + 1} "
            f"pixels; use -p {least} or more"
        )
    rows, cols = scene.labels.shape
    widest = max(rows, cols) - 1
    if half_width > widest:
        cure = f"use -p {widest} or less" if widest > 1 else "the scene is too small"
        raise InputError(
            f"-p {half_width}: patches wider than the scene, {rows}×{cols} pixels, on all sides of "
            f"every pixel; {cure}"
        )


def check_preprocess(settings: Settings, network: type[nn.Module]) -> None:
    """Raise InputError where a network needs another preprocessing."""
    needed = getattr(network, "preprocess", settings.preprocess)
    if settings.preprocess != needed:
        raise InputError(
            f"--preprocess {settings.preprocess}: {network.__name__} takes numbers from 0 to 1; "
            f"use --preprocess {needed}"
        )


def check_finite(numbers: np.ndarray, scene: Scene) -> None:
    """Raise InputError unless what became of a scene's spectra are finite numbers."""
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{scene.source}: values too far from those that the network was trained on to compute "
            f"with; give both scenes the same units, or say with 'nodata' what is no data"
        )


def scene_patches(
    scene: Scene,
    rows: slice,
    half_width: int,
    device: torch.device,
    preprocessing: Preprocessing,
) -> Patches:
    """Return the patches of some rows of a scene; those without data are zero."""

    def preprocess(block: np.ndarray) -> np.ndarray:
        spectra = _preprocessed(scene, block, preprocessing)
        if not (np.abs(spectra) <= FARTHEST).all():
            raise _too_far(scene, rows.start, cube, preprocessing)
        return spectra

    cube = scene.read_rows(rows.start, rows.stop)
    if scene.nodata_unstated:
        check_for_unstated_nodata(scene.key, cube, scene.nodata, rows.start, scene.stored)
    valid_pixels(cube, scene.nodata, scene.source, rows.start, scene.bands.used, scene.stored)
    return Patches.of_cube(cube, half_width, device, preprocess)


def labelled_patches(
    scene: Scene, half_width: int, device: torch.device, preprocessing: Preprocessing
) -> Patches:
    """Return the patches of the labelled pixels of a scene that is read by rows, and no others.

    They are the same as those that `scene_patches` returns.
    """

    def preprocess(block: np.ndarray, first_row: int) -> np.ndarray:
        spectra = _preprocessed(scene, block, preprocessing)
        if not (np.abs(spectra) <= FARTHEST).all():
            raise _too_far(scene, first_row, block, preprocessing)
        return spectra

    labelled = np.flatnonzero(scene.labels)
    return Patches.of_pixels(scene.cube, labelled, half_width, device, preprocess)


def _preprocessed(scene: Scene, block: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """What becomes of some rows of a scene; zero where they hold no data."""
    with np.errstate(over="ignore", invalid="ignore"):  # of pixels without data
        spectra = preprocessing.apply(block)
    spectra[~has_data(block, scene.nodata)] = 0
    return spectra


def in_any_rows(
    function: Callable[[Patches, np.ndarray], T],
    scene: Scene,
    labelled: Patches,
    preprocessing: Preprocessing,
) -> Callable[[np.ndarray], T]:
    """Let a function of patches and flat indices take whatever pixels of a scene read by rows.

    Patches of labelled pixels are held; those of others are read, from the first one's row to the
    last one's.
    """

    def of_pixels(pixels: np.ndarray) -> T:
        if scene.labels.flat[pixels].all():
            return function(labelled, pixels)
        (rows, cols), p = scene.labels.shape, labelled.half_width
        first = max(0, int(pixels.min()) // cols - p)  # with the neighbours that patches reach into
        stop = min(int(pixels.max()) // cols + 1 + p, rows)
        device = labelled.spectra.device
        patches = scene_patches(scene, slice(first, stop), p, device, preprocessing)
        return function(patches, pixels - first * cols)

    return of_pixels


def fitting_recipe(settings: Settings, network: type[nn.Module], arguments: dict) -> Recipe:
    """Return the recipe; where the network takes none of its smaller patches, without these."""
    recipe = recipe_of(settings)
    first = half_width(settings, recipe, 1)
    if first == settings.patch or takes_patches(network, arguments, first):
        return recipe
    print(
        f"--recipe {settings.recipe}: {settings.model} takes no patches of -p {first}, so that all "
        f"epochs have those of -p {settings.patch}",
        file=sys.stderr,
    )
    return dataclasses.replace(recipe, small_patches=0.0)


def check_network_takes(
    network: type[nn.Module], arguments: dict, settings: Settings, bands: int
) -> None:
    """Raise InputError where the components are too few for a network, as for a convolution."""

    def takes(components: int) -> bool:
        return takes_patches(network, arguments | {"bands": components}, settings.patch)

    asked = settings.components
    if not takes(asked):
        least = next(filter(takes, range(asked + 1, bands + 1)), None)
        cure = f"use --components {least} or more" if least else "leave --components out"
        raise InputError(
            f"--components {asked}: too few for the convolutions of {settings.model}; {cure}"
        )


def takes_patches(network: type[nn.Module], arguments: dict, half_width: int) -> bool:
    """Whether a network maps patches of some width to logits."""
    width = 2 * half_width + 1
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without a number
        try:
            model = network(**arguments).eval()
            scores = model(torch.zeros(2, 1, width, width, arguments["bands"]))
            return scores.shape == (2, arguments["classes"])
        except Exception:  # of whatever is in the network, a product of matrices for one
            return False


def _too_far(
    scene: Scene, first_row: int, cube: np.ndarray, preprocessing: Preprocessing
) -> InputError:
    """Say which pixels of some rows (rows, cols, bands) the network cannot have learnt of."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = [(np.abs(preprocessing.apply(row)) <= FARTHEST).all(axis=1) for row in cube]
    far = ~np.array(near) & has_data(cube, scene.nodata)
    row, col = np.argwhere(far)[0]
    band = np.abs(cube[row, col].astype(np.float64)).argmax()
    return InputError(
        f"{scene.source}: values too far from those that the network was trained on in "
        f"{np.count_nonzero(far)} pixels of rows {first_row} to {first_row + len(cube) - 1}, as "
        f"{cube[row, col, band]} at row {first_row + row}, column {col}, band "
        f"{scene.bands.used[band]}; say with 'nodata' if that is no data, or give both scenes the "
        f"same units"
    )


def build(network: type[nn.Module], arguments: dict, precision: str, patches: Patches) -> nn.Module:
    """Make the network with initial weights, in its fast form where the patches are."""
    device = patches.spectra.device
    model = use_fast_form(network(**arguments), device, PRECISIONS[precision])
    prepare(model, patches.gather(torch.arange(2, device=device)))
    return model
