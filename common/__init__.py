"""What the networks share, in folders through which data flows from the last to the first.

`settings`, `recipe` and `layers` are to be read first.  A folder imports only from those that
stand below it here:

    run         a command from start to end
    tables      results directories side by side
    reporting   one results directory
    training    one network on one split
    samples     from a scene to batches
    scenes      from files to a scene
    fast        the layers of `layers`, many times faster
    system      the machine: errors, files, memory, device

To use it from Python is `import common` and the calls below: see docs/python.md.
"""

import importlib

_CALLS = {  # name → where it stands; imported when it is first used, for PyTorch takes a second
    "load_scene": "common.scenes.scene",
    "make_scene": "common.scenes.array_scene",
    "make_settings": "common.run.keywords",
    "make_splits": "common.samples.make_splits",
    "Split": "common.samples.random_split",
    "train": "common.run.model",
    "load": "common.run.model",
    "run_experiment": "common.run.keywords",
    "read_outcome": "common.reporting.read_results",
    "draw_figures": "common.reporting.figures",
    "confusion_matrix": "common.reporting.metrics",
    "scores": "common.reporting.metrics",
    "InputError": "common.system.errors",
}


def __getattr__(name: str) -> object:
    """Import one of the calls of the Python interface."""
    if name not in _CALLS:
        raise AttributeError(f"module 'common' has no attribute {name!r}")
    return getattr(importlib.import_module(_CALLS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_CALLS})
