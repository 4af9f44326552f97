"""A trained network from its weights: the class that they are of, found, built and filled."""

import contextlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from common.samples.patches import Patches
from common.system.errors import InputError
from common.system.files import REPOSITORY, check_is_file
from common.training.network_input import build
from common.training.weights_file import Weights


def plain_network(kind: type[nn.Module], weights: Weights) -> nn.Module:
    """Build the plain network with its trained weights: float32, CPU, evaluation mode."""
    network = kind(**weights.network)
    network.load_state_dict(weights.state)
    return network.float().eval()


def fast_network(
    kind: type[nn.Module], weights: Weights, precision: str, patches: Patches
) -> nn.Module:
    """Build the network with its trained weights in its fast form, where `patches` are."""
    model = build(kind, weights.network, precision, patches)
    model.load_state_dict(weights.state)
    return model


def network_class(name: str, file: Path | None = None) -> type[nn.Module]:
    """Return the network class `name` of a file, or of this repository's ``<folder>/<name>.py``.

    A weights file may come from anyone: its `name` chooses among the repository's own files that
    hold such a class, and nothing else on Python's path is looked at.

    Raises
    ------
    InputError
        There is no such file or no such class in it.
    """
    if file is not None:
        check_is_file(file, f"--network {file}")
    module = loaded(own_file(name) if file is None else file)
    network = getattr(module, name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise InputError(f"network {name!r}: {module.__file__} has no torch.nn.Module of that name")
    return network


def own_file(name: str) -> Path:
    """The file of this repository that has a class of that name, and is called so too."""
    files = sorted(REPOSITORY.glob(f"*/{name}.py")) if str(name).isidentifier() else []
    for file in files:
        if re.search(rf"^class {name}\b", file.read_text("utf-8"), flags=re.MULTILINE):
            return file
    raise InputError(
        f"network {name!r}: this repository has no {name}.py with such a class; name its file with "
        f"--network, or from Python give the class itself"
    )


def loaded(file: Path) -> ModuleType:
    """Return the module of a Python file; one of this repository is imported, and so made once."""
    name = f"{file.parent.name}.{file.stem}"
    if file.parent.parent == REPOSITORY:
        if str(REPOSITORY) not in sys.path:
            sys.path.insert(0, str(REPOSITORY))  # as the file itself does
        with contextlib.suppress(ModuleNotFoundError):  # a package of that name from elsewhere
            module = importlib.import_module(name)
            if Path(module.__file__).resolve() == file.resolve():
                return module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise InputError(f"--network {file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
