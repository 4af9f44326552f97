"""The command line that the training scripts share."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from common.recipe import RECIPES, check_recipe, with_recipe
from common.reporting.results_folder import output_directory
from common.samples.make_splits import check_split_flags, split_setting
from common.samples.preprocess import PREPROCESSINGS, check_preprocessing_flags
from common.scenes.read_labels import split_map_source
from common.scenes.scene import Scene, describe_files
from common.scenes.scene_file import SCENES, scene_name
from common.settings import Settings
from common.system import process
from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import check_is_file
from common.system.flags import (
    check_device,
    count,
    count_or_share,
    decay,
    file_name,
    positive,
    share,
    workers_or_address,
)
from common.system.memory import told_if_memory_is_short
from common.system.provenance import typed_command
from common.training.classifier import Classifier

if TYPE_CHECKING:  # PyTorch takes seconds to load: it comes when the flags are known to be right
    from torch import nn

    from common.run.experiment import Workplace

# The file of weights says how to cut patches, which network it is and what it was not trained on.
USED_WITH_WEIGHTS = {"dataset", "data_dir", "out", "resume", "overwrite", "map", "weights"}
USED_WITH_WEIGHTS |= {"device", "precision", "probabilities", "cluster"}


def set_up(name: str, defaults: Settings) -> None:
    """Prepare the process of a training script, whose ``__name__`` is given, for all that follows.

    It comes before PyTorch is loaded, which takes seconds: a wrong flag, or one that names a file
    that is not there, ends the process here, as ``--help`` does.

    It does nothing where a script's file is only imported.
    """
    if name == "__main__":
        process.set_up()

        def look() -> None:
            check_files(read_settings(defaults, None))

        if status := run_program(build_parser(defaults).prog, look, _again()):
            sys.exit(status)


def main(network: "type[nn.Module]", defaults: Settings, arguments: list[str] | None = None) -> int:
    """Run a network's training script; return its exit status.

    Parameters
    ----------
    network : class of torch.nn.Module
        ``network(bands, classes, **settings.network_arguments())`` builds it.
    defaults : Settings
        What flags that are not given mean.
    arguments : list of str, optional
        The command line without the program's name; ``sys.argv`` if left out.
    """
    make_classifier, use_weights = work_of(network)
    return run_script(make_classifier, defaults, arguments, use_weights, network)


def work_of(
    network: "type[nn.Module]",
) -> tuple[Callable[[Settings, Scene], Classifier], Callable[[Settings], dict]]:
    """Return what makes a network's classifier, and what ``--weights`` does with it."""

    def make_classifier(settings: Settings, scene: Scene) -> Classifier:
        from common.training.network_classifier import NetworkClassifier

        return NetworkClassifier(network, settings, scene)

    def use_weights(settings: Settings) -> dict:
        from common.run.map_scene import evaluate

        return evaluate(network, settings, blocks_on_cluster)

    def blocks_on_cluster(settings: Settings) -> AbstractContextManager:
        from common.run import cluster_blocks

        return cluster_blocks.on_cluster(network, settings)

    return make_classifier, use_weights


def run_script(
    make_classifier: Callable[[Settings, Scene], Classifier],
    defaults: Settings,
    arguments: list[str] | None = None,
    use_weights: Callable[[Settings], dict] | None = None,
    model: type | None = None,
) -> int:
    """Run a training script of any classifier; return its exit status.

    0: done.  2: the user's input was wrong, or memory too small, told in one line on stderr.
    130: interrupted by Ctrl-C.  143: ended by SIGTERM.

    `use_weights` is what ``--weights`` does, and `model` the class that ``--cluster`` has workers
    import, `make_classifier` itself if left out; the other parameters are those of `main` and of
    `train_and_test`.
    """

    def work() -> None:
        settings = read_settings(defaults, arguments)
        carry_out(settings, make_classifier, use_weights, model)
        if settings.weights is not None:
            tell_unused(vars(build_parser(defaults).parse_args(arguments)))

    return run_program(build_parser(defaults).prog, work, _again())


def _again() -> str:
    """What to do after an interruption."""
    return f"; start again with: {typed_command()}"


def carry_out(
    settings: Settings,
    make_classifier: Callable[[Settings, Scene], Classifier],
    use_weights: Callable[[Settings], dict] | None = None,
    model: type | None = None,
) -> dict:
    """Do what a script does with settings; return what ``report.json`` holds.

    The parameters are those of `run_script`.
    """

    def on_cluster(settings: Settings, scene: Scene) -> "AbstractContextManager[Workplace]":
        from common.run import cluster_iterations

        return cluster_iterations.on_cluster(model or make_classifier, settings, scene)

    with told_if_memory_is_short():
        if settings.weights is None:
            from common.run.experiment import train_and_test

            return train_and_test(make_classifier, settings, on_cluster)
        return use_weights(settings)


def read_settings(defaults: Settings, arguments: list[str] | None) -> Settings:
    """Settings from the command line; the recipe comes first, for other defaults depend on it."""
    if defaults.recipe is not None:
        first = OneLineParser(add_help=False)
        add_recipe(first, default=defaults.recipe)
        add_dataset(first, default=defaults.dataset)
        known, _ = first.parse_known_args(arguments)
        defaults = with_recipe(dataclasses.replace(defaults, dataset=known.dataset), known.recipe)
    given = vars(build_parser(defaults).parse_args(arguments))
    if "split" in given:
        given["split"] = split_setting(given["split"])
    settings = dataclasses.replace(defaults, **given)
    check_split_flags(settings, given)
    check_preprocessing_flags(settings)
    if settings.probabilities and settings.map == "none":
        raise InputError("--probabilities: --map none maps no pixel; use --map labelled or all")
    if defaults.recipe is not None:
        check_recipe(settings)
        _check_device(settings)
    return settings


def _check_device(settings: Settings) -> None:
    """Raise InputError where there is no such device, as far as this machine can tell."""
    check_device(settings.device, here=settings.cluster is None or settings.cluster.isdigit())
    if settings.cluster is not None and ":" in settings.device:
        raise InputError(
            f"--device {settings.device}: with --cluster every worker has a GPU of its own; use "
            f"--device cuda, and CUDA_VISIBLE_DEVICES to choose among them"
        )


def check_files(settings: Settings) -> None:
    """Raise InputError where a file that flags name is not there, or the results' folder is taken.

    None is read.
    """
    output_directory(settings)
    for flag, file in (("--weights", settings.weights), ("--start-from", settings.start_from)):
        if file is not None:
            check_is_file(Path(file), f"{flag} {file}")
    for name in settings.split if isinstance(settings.split, tuple) else ():
        check_is_file(split_map_source(name).path)
    describe_files(settings.dataset, settings.data_dir)


def tell_unused(flags: Iterable[str]) -> None:
    """Say on stderr which flags the file of weights has made useless."""
    if unused := set(flags) - USED_WITH_WEIGHTS:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unused))
        print(f"note: {names}: without effect, for --weights trains nothing", file=sys.stderr)


def build_parser(defaults: Settings) -> argparse.ArgumentParser:
    """Build the parser; its destinations are the fields of `Settings`.

    A classifier whose defaults have no recipe is no network and has no flags of networks.
    """
    description = f"Train and test {defaults.model} on a hyperspectral scene."
    parser = OneLineParser(
        description=description,
        argument_default=argparse.SUPPRESS,  # so that only what was given is in the result
        epilog="Of a flag given twice the last counts.",
    )
    add = parser.add_argument
    add_dataset(parser)
    add("-i", "--iter", type=count(1, 1000), help="iterations; iteration n uses seed --seed + n")
    add("-p", "--patch", type=count(2), help="patch half-width: patches are (2p+1)×(2p+1)")
    add("-vs", "--valid_split", type=share, help="share of labelled pixels NOT trained on")
    add("--per-class", type=count(1), metavar="N", help="train on N pixels of each class instead")
    validation_help = "validation pixels: a number, or a share of the labelled ones; else as train"
    add("--validation", type=count_or_share, metavar="N", help=validation_help)
    split_help = "random, authors, disjoint, or two label maps: FILE or FILE.mat:variable"
    add("--split", nargs="+", type=file_name, metavar="SPLIT", help=split_help)
    add("--seed", type=count(0, 2**32 - 10**6), help="seed of the first iteration")
    if defaults.input is not None:
        input_help = "what is classified: a pixel's spectrum, or the patch around it"
        add("--input", choices=["spectrum", "patch"], help=input_help)
    preprocess_help = "PCA and scale, each band standardised, or nothing; docs/flags.md names all"
    add("--preprocess", choices=list(PREPROCESSINGS), help=preprocess_help)
    add("--components", type=count(1), metavar="N", help="first principal components only")
    add("--fit-on", choices=["scene", "train"], help="pixels that preprocessing is fitted on")
    if defaults.recipe is not None:
        add_network_flags(parser, defaults)
    data_help = f"where {', '.join(SCENES)} lie, else $HSI_DATA_DIR, else dataset/"
    add("--data-dir", type=file_name, help=data_help)
    add("--out", type=file_name, help="results directory, else results/<model>_<scene>_<time>")
    add("--resume", action="store_true", help="go on where an interrupted run in --out stopped")
    add("--overwrite", action="store_true", help="replace the results in --out")
    cluster_help = "so many processes, or workers of a Dask scheduler, tcp://… or tls://…"
    add("--cluster", type=workers_or_address, metavar="N", help=cluster_help)
    add("--map", choices=["labelled", "all", "none"], help="which pixels the map classifies")
    for action in parser._actions[1:]:  # all but --help
        if default := getattr(defaults, action.dest):
            action.help += f" (default: {default})"
    return parser


def add_network_flags(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """Add the flags that only networks have."""
    add = parser.add_argument
    add("-e", "--epoch", type=count(1), help="epochs at most")
    if defaults.kernel is not None:
        add("-k", "--kernel", type=count(1, 1024), help="kernels per stage")
    add(
        "-o",
        "--optimizer",
        choices=["adam", "adamw", "diffgrad", "rmsprop", "sgd"],
        help="optimizer",
    )
    if defaults.attention is not None:
        choices = ["paper", "official"]
        add("--attention", choices=choices, help="selective kernels as in paper or released code")
    add("--batch-size", type=count(1), help="patches per training step")
    add("--lr", type=positive, help="learning rate")
    add("--lr-decay", type=decay, help="factor on the learning rate per epoch")
    weights_help = "the loss weighs a class by the inverse of its share of an epoch's pixels"
    add("--class-weights", choices=["none", "balanced"], help=weights_help)
    add_recipe(parser)
    start_help = "training starts from these weights, with a new last layer for other classes"
    add("--start-from", type=file_name, metavar="FILE", help=start_help)
    add(
        "--weights",
        type=file_name,
        metavar="FILE",
        help="train nothing; test and map with these weights",
    )
    add("--device", help="auto, cpu, cuda or cuda:N")
    probabilities_help = "also write how probable the network thinks each class, pixel by pixel"
    add("--probabilities", action="store_true", help=probabilities_help)
    precision_help = "of the convolutions; auto: bf16 if fast here"
    add("--precision", choices=["auto", "fp32", "bf16"], help=precision_help)


def add_dataset(parser: argparse.ArgumentParser, **options) -> None:
    """Add the flag of the scene, on which a recipe's defaults depend."""
    text = f"the scene: {', '.join(SCENES)} or a .yaml file"
    parser.add_argument("-d", "--dataset", type=scene_name, help=text, **options)


def add_recipe(parser: argparse.ArgumentParser, **options) -> None:
    """Add the flag that other flags' defaults depend on."""
    text = "the paper's training, a much shorter one, or that of SSRN's authors, with own defaults"
    parser.add_argument("--recipe", choices=list(RECIPES), help=text, **options)
