"""Compiling on several cores: helper processes compile what the process that trains will need.

Numba compiles on one core.  Each helper runs a network's layers, one by one and beginning with
another one than the others; what it compiles the others find in Numba's cache, and nothing is
compiled twice: see `codegen/jit.py`.
"""

import contextlib
import copy
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from numba.core import event
from torch import nn

from common.fast.compile_time import COMPILE
from common.fast.cpu import layers as cpu_layers
from common.fast.cpu.weight_tiles import constant
from common.fast.layer_errors import Call
from common.fast.replaced import use_layers
from common.system.files import REPOSITORY

PROCESSES = 4  # in all: there are not many loops that take long
HELPER = """
import sys
sys.path.insert(0, sys.argv[1])
from common.fast.compile_ahead import main
main(sys.argv[2])
"""


@contextlib.contextmanager
def compiled_ahead(
    model: nn.Module, calls: Callable[[], Sequence[Call]], dtype: torch.dtype | None
) -> Iterator[None]:
    """As soon as anything is compiled in the block, have helpers compile what the network needs.

    With this process there are as many as PyTorch's threads, at most `PROCESSES`; the helpers end
    with the block.

    Parameters
    ----------
    calls : callable
        Returns how the layers are called.
    """
    helpers = _Helpers(lambda: layers_in_order(model, calls()), dtype)
    event.register(COMPILE, helpers)
    try:
        yield
    finally:
        event.unregister(COMPILE, helpers)
        helpers.end()


class _Helpers(event.Listener):
    """Starts the helpers at the first loop that Numba compiles."""

    def __init__(self, layers: Callable[[], list[bytes]], dtype: torch.dtype | None) -> None:
        self.layers, self.dtype, self.waiting = layers, dtype, True
        self.folder, self.processes = contextlib.ExitStack(), []

    def on_start(self, event: event.Event) -> None:
        if self.waiting and hasattr(event.data["dispatcher"]._cache, "_cache_file"):
            self.waiting = False
            number = min(PROCESSES, torch.get_num_threads()) - 1
            with contextlib.suppress(Exception), torch.enable_grad():  # else it takes longer
                if number:
                    self.start(number)

    def on_end(self, event: event.Event) -> None:
        pass

    def start(self, number: int) -> None:
        layers = self.layers()
        folder = Path(self.folder.enter_context(tempfile.TemporaryDirectory()))
        for helper in range(number):
            first, path = helper * len(layers) // number, folder / f"{helper}.pickle"
            path.write_bytes(pickle.dumps((self.dtype, layers[first:] + layers[:first])))
            process = subprocess.Popen(
                [sys.executable, "-c", HELPER, str(REPOSITORY), str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends it by way of this process
            )
            self.processes.append(process)

    def end(self) -> None:
        for process in self.processes:
            process.kill()  # its locks go with it, and Numba's cache is whole at any time
        for process in self.processes:
            process.communicate()
        self.folder.close()


def layers_in_order(model: nn.Module, calls: Sequence[Call]) -> list[bytes]:
    """Each layer and how it is called, pickled; those that cannot be are left out.

    Convolutions come first, last to first, so that helpers work towards the process that runs the
    network from its beginning, norms among it; first of all those along the bands, whose gradients
    take longest.
    """
    found = []
    for call in reversed(calls):
        with contextlib.suppress(Exception):
            module = copy.deepcopy(model.get_submodule(call.layer))
            pickled = pickle.dumps((use_layers(module, None, None), call))
            rank = 2
            if isinstance(module, nn.Conv3d):
                along_bands = 1 < module.kernel_size[-1] < call.shapes[0][-1]
                rank = 0 if along_bands else 1
            found.append((rank, pickled))
    return [layer for _, layer in sorted(found, key=lambda item: item[0])]


def main(path: str) -> None:
    """Run the layers that a file holds, until all have been or the other process is gone."""
    dtype, layers = pickle.loads(Path(path).read_bytes())
    threading.Thread(target=_end_with_input, daemon=True).start()
    torch.set_num_threads(1)
    for layer in layers:
        with contextlib.suppress(Exception):  # of which the process that waits says more
            _run(*pickle.loads(layer), dtype)


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _run(module: nn.Module, call: Call, dtype: torch.dtype | None) -> None:
    """Run a layer forward and, in training, backward."""
    module = use_layers(module, cpu_layers, dtype).train(call.training)
    kind = next((parameter.dtype for parameter in module.parameters()), torch.float32)
    maps = [torch.randn(2, *shape, dtype=kind) for shape in call.shapes]
    for x, led_back in zip(maps, call.led_back, strict=True):
        x.requires_grad_(led_back and call.training)
    shortcut = {"shortcut": maps.pop()} if call.shortcut else {}
    if call.training:
        (module(*maps, **shortcut) + 0).sum().backward()
    else:
        with torch.no_grad(), constant(module):
            module(*maps, **shortcut) + 0
