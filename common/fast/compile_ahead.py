"""Compiling on several cores: what processes beside this one have compiled, this one finds.

Numba compiles on one core.  So each of them runs a network's layers, one by one and beginning with
another one, and what it compiles is in Numba's cache when it is wanted here; see
`codegen.jit.SharedCache`.
"""

import contextlib
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

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


@contextlib.contextmanager
def compiled_ahead(
    model: nn.Module, calls: Callable[[], Sequence[Call]], dtype: torch.dtype | None
) -> Iterator[None]:
    """Once anything is compiled, let other processes compile what a network's layers need too.

    Until the block ends, and with this one as many as PyTorch has threads.

    Parameters
    ----------
    calls : callable
        Returns how the layers are called.
    """
    others = _Others(lambda: layers_in_order(model, calls()), dtype)
    event.register(COMPILE, others)
    try:
        yield
    finally:
        event.unregister(COMPILE, others)
        for process in others.started:
            with contextlib.suppress(OSError):
                process.stdin.close()  # at which it ends, with the layer that it is at
            process.wait()


class _Others(event.Listener):
    """Starts the other processes at the first loop that Numba compiles."""

    def __init__(self, layers: Callable[[], list[bytes]], dtype: torch.dtype | None) -> None:
        self.layers, self.dtype, self.waiting = layers, dtype, True
        self.started: list[subprocess.Popen] = []

    def on_start(self, event: event.Event) -> None:
        if self.waiting:
            self.waiting = False
            with contextlib.suppress(Exception):  # then it takes longer
                self.start(min(PROCESSES, torch.get_num_threads()) - 1)

    def on_end(self, event: event.Event) -> None:
        pass

    def start(self, number: int) -> None:
        layers = self.layers() if number else []
        for first in (part * len(layers) // number for part in range(number)):
            content = pickle.dumps((self.dtype, layers[first:] + layers[:first]))
            process = subprocess.Popen(
                [sys.executable, "-m", "common.fast.compile_ahead"],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self.started.append(process)
            process.stdin.write(len(content).to_bytes(8, "little") + content)
            process.stdin.flush()


def layers_in_order(model: nn.Module, calls: Sequence[Call]) -> list[bytes]:
    """Each layer and how it is called, pickled; those that cannot be are left out.

    A network that is run from its beginning, norms among it, meets who begins with the
    convolutions, the last one first.
    """
    found = []
    for call in reversed(calls):
        module = copy.deepcopy(model.get_submodule(call.layer))
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
            pickled = pickle.dumps((use_layers(module, None, None), call))
            found.append((not isinstance(module, nn.Conv3d), pickled))
    return [layer for _, layer in sorted(found, key=lambda item: item[0])]


def main() -> None:
    """Run the layers that come from the standard input, as long as it is open."""
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    dtype, layers = pickle.loads(sys.stdin.buffer.read(size))
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.buffer.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    for layer in layers:
        if over.is_set():
            break
        with contextlib.suppress(Exception):  # of which the process that waits says more
            _run(*pickle.loads(layer), dtype)


def _run(module: nn.Module, call: Call, dtype: torch.dtype | None) -> None:
    """Run a layer forward and, in training, backward."""
    module = use_layers(module, cpu_layers, dtype).train(call.training)
    maps = [torch.randn(2, *shape) for shape in call.shapes]
    for x, led_back in zip(maps, call.led_back, strict=True):
        x.requires_grad_(led_back and call.training)
    shortcut = {"shortcut": maps.pop()} if call.shortcut else {}
    if call.training:
        (module(*maps, **shortcut) + 0).sum().backward()
    else:
        with torch.no_grad(), constant(module):
            module(*maps, **shortcut) + 0


if __name__ == "__main__":
    main()
