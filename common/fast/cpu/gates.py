"""The gates of `layers.GatedSum` for maps whose batch lies innermost (CPU).

Arrays are ``(kernels, lanes)``.
"""

import numpy as np

from common.fast.codegen.jit import compiled

REACH = 1  # neighbours on either side that a gate sees


@compiled
def gates(sums, numbers, weight):
    """Averages of a map over each patch, given its sums over so many numbers, and the gates."""
    kernels, lanes = sums.shape
    averages, out = sums / sums.dtype.type(numbers), np.zeros_like(sums)
    for k in range(kernels):
        for j in range(max(0, k - REACH), min(kernels, k + REACH + 1)):
            out[k] += weight[j - k + REACH] * averages[j]
        for lane in range(lanes):
            out[k, lane] = 1 / (1 + np.exp(-out[k, lane]))
    return averages, out


@compiled
def gates_backward(of_gates, averages, gates_, numbers, weight, used):
    """Gradients of each of the numbers summed, and of the weight, from the first `used` lanes."""
    kernels = len(averages)
    inner = of_gates * gates_ * (1 - gates_)  # of what the sigmoid is taken of
    of_numbers, of_weight = np.zeros_like(averages), np.zeros_like(weight)
    for k in range(kernels):
        for j in range(max(0, k - REACH), min(kernels, k + REACH + 1)):
            factor = weight[j - k + REACH]
            of_numbers[j] += factor * inner[k]
            for lane in range(used):
                of_weight[j - k + REACH] += inner[k, lane] * averages[j, lane]
    return of_numbers / averages.dtype.type(numbers), of_weight
