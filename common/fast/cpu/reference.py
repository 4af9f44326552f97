"""What the compiled loops compute, in plain NumPy: slow, and as plain as the formula.

Maps are ``(batch, channels, rows, cols, bands)``, as PyTorch's tensors are, and in float64.  What
stands here says what a fast loop has to give; the tests compare each of them with it.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PLACES = (2, 3, 4)  # rows, cols, bands


def conv(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: tuple[int, int, int], stride: int
) -> np.ndarray:
    """A convolution of stride 1 over rows and cols, any stride over the bands.

    out[n, k, r, c, b] = bias[k] + Σ x[n, i, r + y, c + z, stride b + t] weight[k, i, y, z, t]
    """
    windows = _windows(x, weight.shape[2:], padding, stride)
    return np.einsum("nircbyzt, kiyzt -> nkrcb", windows, weight) + bias[:, None, None, None]


def conv_backward(
    gradient: np.ndarray, x: np.ndarray, weight: np.ndarray, padding: tuple[int, int, int],
    stride: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of a convolution's input, weights and bias."""
    windows = _windows(x, weight.shape[2:], padding, stride)
    of_weight = np.einsum("nkrcb, nircbyzt -> kiyzt", gradient, windows)
    of_x = np.zeros_like(_padded(x, padding))
    rows, cols, bands = gradient.shape[2:]
    for y, z, t in np.ndindex(weight.shape[2:]):
        seen = of_x[:, :, y : y + rows, z : z + cols, t : t + stride * bands : stride]
        seen += np.einsum("nkrcb, ki -> nircb", gradient, weight[:, :, y, z, t])
    inner = (slice(p, p + size) for p, size in zip(padding, x.shape[2:], strict=True))
    return of_x[:, :, *inner], of_weight, gradient.sum(axis=(0, *PLACES))


def row_by_fourier(x: np.ndarray, taps: np.ndarray, points: int = 16) -> np.ndarray:
    """Σ x[b + t] taps[t] for the bands b at which all taps lie within `points` bands x."""
    product = np.fft.rfft(x, points) * np.fft.rfft(taps, points).conj()
    return np.fft.irfft(product, points)[: points - len(taps) + 1]


def normalise(
    x: np.ndarray, scale: np.ndarray, offset: np.ndarray, floor: float, floor_out: float
) -> np.ndarray:
    """How a `Norm` reads a map."""
    inner = np.maximum(x, floor) * _per_channel(scale) + _per_channel(offset)
    return np.maximum(inner, floor_out)


def batch_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, relu_before: bool, relu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[ReLU →] batch norm [→ ReLU] in training; also the batch's mean and variance."""
    x = np.maximum(x, 0) if relu_before else x
    mean, variance = x.mean(axis=(0, *PLACES)), x.var(axis=(0, *PLACES))
    normalised = (x - _per_channel(mean)) / np.sqrt(_per_channel(variance) + eps)
    out = normalised * _per_channel(weight) + _per_channel(bias)
    return np.maximum(out, 0) if relu else out, mean, variance


def running_statistics(
    running: np.ndarray, mean: np.ndarray, variance: np.ndarray, count: int, momentum: float
) -> np.ndarray:
    """Running mean and variance (2, channels) after a batch of `count` numbers per channel."""
    return (1 - momentum) * running + momentum * np.stack([mean, variance * count / (count - 1)])


def batch_norm_backward(
    gradient: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float,
    relu_before: bool, relu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Gradients of the same's input, weight and bias (Ioffe & Szegedy 2015, section 3)."""
    every = (0, *PLACES)
    out, mean, variance = batch_norm(x, weight, bias, eps, relu_before, relu)
    gradient = gradient * (out > 0) if relu else gradient
    std = np.sqrt(_per_channel(variance) + eps)
    normalised = ((np.maximum(x, 0) if relu_before else x) - _per_channel(mean)) / std
    of_weight, of_bias = (gradient * normalised).sum(axis=every), gradient.sum(axis=every)
    means = (_per_channel(total) / (x.size / len(weight)) for total in (of_bias, of_weight))
    of_x = gradient - next(means) - normalised * next(means)
    of_x = of_x * _per_channel(weight) / std
    return of_x * (x > 0) if relu_before else of_x, of_weight, of_bias


def patch_sums(x: np.ndarray, times: np.ndarray | float = 1) -> np.ndarray:
    """Sums (batch, channels) over rows, cols and bands of a map, or of its product with another."""
    return (x * times).sum(axis=PLACES)


def weighted_sum(
    x: np.ndarray, weight: np.ndarray, y: np.ndarray, weight_y: np.ndarray, floor: float
) -> np.ndarray:
    """max(x weight + y weight_y, floor), with weights (batch, channels)."""
    return np.maximum(x * _per_patch(weight) + y * _per_patch(weight_y), floor)


def gates(averages: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """An EFR's gates (batch, channels): gate k sees the averages of channels k - 1, k and k + 1."""
    around = np.pad(averages, ((0, 0), (1, 1)))
    inner = sum(w * around[:, j : j + averages.shape[1]] for j, w in enumerate(weight))
    return 1 / (1 + np.exp(-inner))


def gates_backward(
    of_gates: np.ndarray, averages: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the averages and the weight."""
    gate, channels = gates(averages, weight), averages.shape[1]
    of_inner = of_gates * gate * (1 - gate)  # of what the sigmoid is taken of
    around = np.pad(averages, ((0, 0), (1, 1)))
    of_around, of_weight = np.zeros_like(around), np.zeros(len(weight))
    for j, w in enumerate(weight):
        of_around[:, j : j + channels] += w * of_inner
        of_weight[j] = (of_inner * around[:, j : j + channels]).sum()
    return of_around[:, 1:-1], of_weight


def gradient(
    array: np.ndarray, weight: np.ndarray, constant: np.ndarray, norm: tuple, x: np.ndarray,
    slope: np.ndarray, shift: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """What a `Gradient` stands for, weighted and led back through a norm of the map x.

    `weight` and `constant` are (batch, channels), `norm` is (scale, offset, floor, floor_out).
    """
    scale, _, floor, floor_out = norm
    passed = (array * _per_patch(weight) + _per_patch(constant)) * (normalise(x, *norm) > floor_out)
    led_back = passed * _per_channel(scale) + x * _per_channel(slope) + _per_channel(shift)
    return led_back * (x > floor)


def gradient_sums(array: np.ndarray, norm: tuple, x: np.ndarray) -> np.ndarray:
    """Sums (2, channels) of what of a gradient passes a norm's last ReLU, and of it times its x."""
    _, _, floor, floor_out = norm
    passed = array * (normalise(x, *norm) > floor_out)
    return np.stack([passed, passed * np.maximum(x, floor)]).sum(axis=(1, *(p + 1 for p in PLACES)))


def _padded(x: np.ndarray, padding: tuple[int, int, int]) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))


def _windows(
    x: np.ndarray, size: tuple[int, int, int], padding: tuple[int, int, int], stride: int
) -> np.ndarray:
    """View (batch, channels, rows, cols, bands, *size): what each number of the output sees."""
    return sliding_window_view(_padded(x, padding), size, axis=PLACES)[:, :, :, :, ::stride]


def _per_channel(values: np.ndarray) -> np.ndarray:
    return values[:, None, None, None]


def _per_patch(values: np.ndarray) -> np.ndarray:
    return values[:, :, None, None, None]
