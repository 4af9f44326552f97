"""What the process imports from which others are forked.  It starts no thread: forks need that."""

import gc
import importlib

from numba.core.registry import cpu_target

from common.system.provenance import loaded_packages

for name in (
    "A2S2KResNet.A2S2KResNet",
    "SSRN.SSRN",
    "baselines.SVM",
    "common.reporting.page",
    "common.run.map_scene",
    "common.training.network_classifier",
):
    importlib.import_module(name)

loaded_packages()  # keeps their versions
cpu_target.target_context.refresh()  # what Numba knows how to compile: a second or two
gc.freeze()
