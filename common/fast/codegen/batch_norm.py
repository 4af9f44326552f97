"""A batch norm's arithmetic on its channels, whatever its feature maps look like in memory."""

import numpy as np

from common.fast.codegen.jit import helper


@helper
def follow(mean, variance, batch_mean, batch_variance, count, momentum):
    """Let running statistics follow those of a batch, which are of `count` numbers per channel."""
    for k in range(len(mean)):
        mean[k] += momentum * (batch_mean[k] - mean[k])
        variance[k] += momentum * (batch_variance[k] * count / (count - 1) - variance[k])


@helper
def scale_and_offset(mean, variance, weight, bias, eps):
    """1 / std, and what the norm multiplies with and adds; float64 (channels,)."""
    inverse_std = 1 / np.sqrt(variance + eps)
    return inverse_std, weight * inverse_std, bias - mean * weight * inverse_std


@helper
def gradients(mean, inverse_std, scale, total, dot, count, training):
    """Gradient of the weight, and that of the input as scale g + slope x + shift.

    `total` and `dot` are the sums of the gradient g that passes the last ReLU, the gradient of the
    bias, and of g times the input x.  It is the usual weight / std * (g - mean(g) - x̂ mean(g x̂)).
    """
    of_weight = (dot - mean * total) * inverse_std
    slope, shift = np.zeros(len(mean)), np.zeros(len(mean))
    if training:
        slope = -scale * inverse_std * of_weight / count
        shift = -scale * total / count - slope * mean
    return of_weight, slope, shift
