"""A trained network as an ONNX file, checked against PyTorch."""

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.run.export_command import check_names
from common.system.errors import InputError
from common.system.files import write_file
from common.training.trained_network import network_class, plain_network
from common.training.weights_file import Weights, check_state, load_weights

OPSET = 18
TOLERANCE = 1e-4  # largest difference of logits, relative to the largest logit
BATCH_SIZES = (1, 2, 7, 32)  # tried in the check
USAGE = (
    "patches (batch, 1, P, P, components), P = patch_size: the neighbourhoods of pixels in the "
    "scene's ((spectra[..., bands] - mean) @ matrix), in float64, cast to float32 and only then "
    "padded with zeros outside the scene. The largest of the logits (batch, classes) tells the "
    "class, in the order of class_names."
)


@dataclass(frozen=True)
class Agreement:
    """How far onnxruntime's answers are from PyTorch's.

    Attributes
    ----------
    logits, softmax : float
        Largest absolute differences.
    scale : float
        PyTorch's largest absolute logit.
    agreeing, patches : int
        Patches given the same class by both, and all.
    """

    logits: float
    softmax: float
    scale: float
    agreeing: int
    patches: int

    @property
    def close(self) -> bool:
        """Whether the logits are within the tolerance; NaN is not."""
        return self.logits <= TOLERANCE * self.scale

    def __str__(self) -> str:
        return (
            f"{self.patches} random patches in batches of {', '.join(map(str, BATCH_SIZES))}: "
            f"logits differ by at most {self.logits:.1e} (tolerance "
            f"{TOLERANCE * self.scale:.1e}), softmax by {self.softmax:.1e}; "
            f"{self.agreeing} of {self.patches} predicted classes agree"
        )


class ExportError(Exception):
    """What was exported does not compute what PyTorch computes."""


def export(weights_file: Path, onnx_file: Path, network_file: Path | None = None) -> Agreement:
    """Write the network in `weights_file` as `onnx_file`, if it passes the check.

    Its class is that of the file's name in `network_file`, else in this repository.

    Raises
    ------
    InputError
        onnx or onnxruntime is missing, or a file cannot be used.
    ExportError
        The ONNX network is not close to PyTorch's; nothing is written.
    """
    check_packages()
    check_names(weights_file, onnx_file)
    weights = load_weights(weights_file)
    kind = network_class(weights.model, network_file)
    check_state(kind, weights, str(weights_file))
    network, notes, shape = plain_network(kind, weights), metadata(weights), patch_shape(weights)
    model = onnx_model(network, shape, notes)
    agreement = compare(model, network, shape)
    if not agreement.close:
        raise ExportError(f"onnxruntime and PyTorch do not agree, nothing is written: {agreement}")
    try:
        write_file(onnx_file, model)
    except OSError as error:
        raise InputError(f"{onnx_file}: cannot be written: {error.strerror}") from error
    return agreement


def check_packages() -> None:
    """Raise `InputError` where the optional packages are missing."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not installed; run: python -m pip install onnx onnxruntime"
        )


def patch_shape(weights: Weights) -> tuple[int, int, int, int]:
    """Shape of one patch: (1, P, P, bands)."""
    size = 2 * weights.settings["patch"] + 1
    return 1, size, size, weights.network["bands"]


def metadata(weights: Weights) -> dict[str, str]:
    """Collect what a user needs besides the graph; lists as JSON, which keeps every float64 bit."""
    return {
        "model": weights.model,
        "dataset": weights.settings["dataset"],
        "class_names": json.dumps(weights.class_names),
        "labels": json.dumps(weights.labels),
        "patch_size": str(patch_shape(weights)[1]),
        "bands": json.dumps(weights.bands),
        "mean": json.dumps(weights.preprocessing.mean.tolist()),
        "matrix": json.dumps(weights.preprocessing.matrix.tolist()),
        "usage": USAGE,
    }


def onnx_model(network: nn.Module, shape: tuple[int, ...], notes: dict[str, str]) -> bytes:
    """Serialise `network` as ONNX: ``patches`` (batch, *shape) to ``logits`` (batch, classes).

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    shape : tuple of int
        Of one patch: (1, P, P, bands).
    notes : dict of str to str
        The file's metadata.

    Raises
    ------
    InputError
        PyTorch cannot export an operation of this network.
    """
    import onnx

    buffer = io.BytesIO()
    try:
        with exporting_unfold(), warnings.catch_warnings():
            # Of this exporter's age (the new one needs a further package, onnxscript), and of
            # what may go wrong in tracing, which the check would find.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            torch.onnx.export(
                network,
                (torch.zeros(2, *shape),),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=["patches"],
                output_names=["logits"],
                dynamic_axes={"patches": {0: "batch"}, "logits": {0: "batch"}},
            )
    except Exception as error:  # the exporter has several for what it cannot do
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"network {type(network).__name__!r}: {reason}") from error
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def exporting_unfold() -> Iterator[None]:
    """Teach PyTorch's exporter `Tensor.unfold`, for which it wants to know the axis's length."""
    torch.onnx.register_custom_op_symbolic("aten::unfold", _unfold, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::unfold", OPSET)


@torch.onnx.symbolic_helper.parse_args("v", "i", "i", "i")
def _unfold(graph, x, axis: int, size: int, step: int):
    """Windows of `size` along `axis`, as a new last axis: one strided slice per place in them."""

    def constant(value: int) -> Tensor:
        return graph.op("Constant", value_t=torch.tensor([value]))

    slices = []
    for place in range(size):
        end = place - size + 1 or np.iinfo(np.int64).max  # the last place reaches the end
        bounds = [constant(value) for value in (place, end, axis, step)]
        slices.append(graph.op("Unsqueeze", graph.op("Slice", x, *bounds), constant(-1)))
    return graph.op("Concat", *slices, axis_i=-1)


@torch.no_grad()
def compare(model: bytes, network: nn.Module, shape: tuple[int, ...]) -> Agreement:
    """Compare onnxruntime with PyTorch on random patches ``(batch, *shape)`` of several sizes.

    The patches are standard normal, as preprocessed spectra are scaled, with a row of zeros as at
    a scene's edge.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    expected, actual = [], []
    for batch_size in BATCH_SIZES:
        patches = torch.randn(batch_size, *shape, generator=generator)
        patches[:, :, 0] = 0
        expected.append(network(patches))
        (logits,) = session.run(["logits"], {"patches": patches.numpy()})
        actual.append(torch.from_numpy(logits))
    expected, actual = torch.cat(expected), torch.cat(actual)
    return Agreement(
        logits=(actual - expected).abs().max().item(),
        softmax=(actual.softmax(1) - expected.softmax(1)).abs().max().item(),
        scale=expected.abs().max().item(),
        agreeing=int((actual.argmax(1) == expected.argmax(1)).sum()),
        patches=len(expected),
    )
