"""From Python: the training scripts' flags as keywords, and whole runs by them.

What a flag is there is a keyword here, under its long name, with the same defaults, checks and
messages.
"""

import argparse
import os
import sys
from collections.abc import Mapping

from torch import nn

from common.run.cli import build_parser, carry_out, read_settings, work_of
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError
from common.training.classifier import Classifier
from common.training.trained_network import loaded, own_file

OF_SCENE = ("dataset", "data_dir")  # settings that a scene brings
OF_RUNS = (
    "out",
    "overwrite",
    "resume",
    "weights",
    "cluster",
)  # that mean something to whole runs only


def make_settings(network: str | type, scene: Scene, **flags) -> Settings:
    """Return the settings of a training on a scene, with the script's own defaults.

    Parameters
    ----------
    network : str or class
        The name of a network of this repository, as ``"SSRN"``, or a class in whose file
        ``DEFAULTS`` says what settings mean that are not given.
    scene : Scene
        It brings the settings `dataset` and `data_dir`.
    **flags
        The training script's flags by their long names, as ``recipe="fast", valid_split=0.95``;
        None is one that is not given.  ``python SSRN/SSRN.py --help`` lists them.

    Raises
    ------
    InputError
        What the command line refuses, in the same words; or a flag that says what the scene says,
        or that only means something to a whole run (see `run_experiment`).
    """
    for name in (*OF_SCENE, *OF_RUNS):
        if flags.get(name) is not None:
            why = "the scene says it" if name in OF_SCENE else "only run_experiment has it"
            raise InputError(f"{name}: {why}; leave it out")
    return settings_of_keywords(network, flags | of_scene(scene))


def run_experiment(network: str | type, **flags) -> dict:
    """Do all that the training script does with these flags, and write its results directory.

    Parameters
    ----------
    network : str or class
        As in `make_settings`; with ``"SVM"`` it is the script of that name.
    **flags
        The flags by their long names, as ``dataset="UP", recipe="fast", out="results/UP"``.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        What the command line refuses, in the same words.
    """
    settings, kind = settings_of_keywords(network, flags), class_of(network)
    if issubclass(kind, nn.Module):
        return carry_out(settings, *work_of(kind), kind)
    return carry_out(settings, kind)


def class_of(network: str | type) -> type:
    """Return a class by its name in this repository, or as it is given."""
    if not isinstance(network, str):
        return network
    return getattr(loaded(own_file(network)), network)


def classifier_of(kind: type, settings: Settings, scene: Scene) -> Classifier:
    """Make the classifier that a script of that class trains, be it of a network or not."""
    make = work_of(kind)[0] if issubclass(kind, nn.Module) else kind
    return make(settings, scene)


def settings_of_keywords(network: str | type, flags: Mapping[str, object]) -> Settings:
    """Read flags given as keywords by the parser of the command line."""
    if isinstance(network, str):
        name, module = network, loaded(own_file(network))
    else:
        name, module = network.__name__, sys.modules[network.__module__]
    defaults = getattr(module, "DEFAULTS", None)
    if not isinstance(defaults, Settings):
        raise InputError(
            f"{name}: no DEFAULTS beside it, a Settings that says what a setting means that is "
            f"not given"
        )
    parser = build_parser(defaults)
    known = {action.dest: action for action in parser._actions if action.dest != "help"}
    words = []
    for name, value in flags.items():
        if name not in known:
            raise InputError(
                f"{name}: {defaults.model} has no such setting; it has {', '.join(known)}"
            )
        if value is not None:
            words += _words(known[name], value)
    return read_settings(defaults, words)


def _words(action: argparse.Action, value: object) -> list[str]:
    """What stands on the command line for a keyword."""
    flag = action.option_strings[-1]
    if action.nargs == 0:  # given or not
        if not isinstance(value, bool):
            raise InputError(f"{action.dest}: {value!r} is neither True nor False")
        return [flag] * value
    if action.nargs == "+" and isinstance(value, tuple | list):
        return [flag, *map(os.fspath, value)]
    return [f"{flag}={value}"]


def of_scene(scene: Scene) -> dict[str, str | None]:
    """Settings that a scene brings."""
    return {name: getattr(scene, name) for name in OF_SCENE}
