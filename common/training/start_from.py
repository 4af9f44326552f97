"""``--start-from``: training that begins with the weights of another, maybe of another scene."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError
from common.system.files import file_sha256
from common.training.weights_file import (
    Weights,
    check_state,
    check_wavelengths,
    load_weights,
    shapes,
)

FLAGS = {"kernels": "--kernel", "attention": "--attention"}  # of a network's arguments


class Start(NamedTuple):
    """What training starts from.

    Attributes
    ----------
    state : dict of str to tensor
        What is taken over of the other network: all but the last layer where classes differ.
    origin : dict
        What ``report.json`` says of it: `file`, its `sha256`, the `scene` that it was trained on,
        and whether there is a `new_last_layer`.
    """

    state: dict[str, Tensor]
    origin: dict


def read_start(
    settings: Settings, network: type[nn.Module], arguments: dict, scene: Scene
) -> Start | None:
    """Read what ``--start-from`` names, and check that it fits network and scene.

    Only weights are taken over.  The preprocessing is the new scene's own: the first layers then
    get numbers of mean 0 and variance 1 as ever, and a run with ``--start-from`` differs from one
    without in nothing but its initial weights.

    Parameters
    ----------
    arguments : dict
        Those of the network's constructor.

    Returns
    -------
    Start or None
        None without the flag.

    Raises
    ------
    InputError
        The file is not there, damaged, or of another network, or the scenes' bands are not alike.
    """
    if settings.start_from is None:
        return None
    path = Path(settings.start_from)
    weights = load_weights(path, settings.model, "--start-from")
    name = f"--start-from {path}"
    _check_alike(weights, arguments, scene, name)
    check_state(network, weights, name)
    state, same_classes = weights.state, tuple(weights.class_names) == scene.class_names
    if not same_classes:
        last = last_layer(network, weights.network)
        state = {key: tensor for key, tensor in state.items() if key not in last}
    origin = {
        "file": settings.start_from,
        "sha256": file_sha256(path),
        "scene": weights.scene_name,
        "new_last_layer": not same_classes,
    }
    return Start(state, origin)


def begin_with(model: nn.Module, start: Start) -> None:
    """Put the weights of a start into a network that has its initial ones."""
    model.load_state_dict(model.state_dict() | start.state)


def last_layer(network: type[nn.Module], arguments: dict) -> set[str]:
    """Names of the tensors whose shapes depend on the number of classes."""
    more = arguments | {"classes": arguments["classes"] + 1}
    with torch.device("meta"):
        here, there = (shapes(network(**given).state_dict()) for given in (arguments, more))
    return {name for name, shape in here.items() if there[name] != shape}


def _check_alike(weights: Weights, arguments: dict, scene: Scene, name: str) -> None:
    """Raise InputError unless bands and network are alike; classes may differ."""
    trained, here = len(weights.bands), scene.cube.shape[2]
    if trained != here:
        raise InputError(
            f"{name}: trained on {trained} bands, but {scene.title} has {here}; leave out bands "
            f"with 'ignored_bands' in a scene file, so that both have the same"
        )
    check_wavelengths(weights, scene, name)
    components = weights.network["bands"]
    if components != arguments["bands"]:
        cure = f"use --components {components}" if components < here else "leave --components out"
        raise InputError(
            f"{name}: trained on {components} components, here these are {arguments['bands']}; "
            f"{cure}"
        )
    for key in sorted((arguments.keys() | weights.network.keys()) - {"bands", "classes"}):
        before, now = weights.network.get(key), arguments.get(key)
        if before != now:
            cure = f"; use {FLAGS[key]} {before}" if key in FLAGS else ""
            raise InputError(f"{name}: trained with {key} {before}, here it is {now}{cure}")
