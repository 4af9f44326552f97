"""What the processor that Numba compiles for can do: the one at hand, or what it is told.

`NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` hold Numba to another one.
"""

from numba import config
from numba.core.codegen import get_host_cpu_features


def features() -> set[str]:
    """The features that Numba lets LLVM use; what a processor's name alone implies is left out."""
    told = config.CPU_FEATURES  # "+avx2,-avx512f,…"; empty for NUMBA_CPU_NAME=generic
    listed = get_host_cpu_features() if told is None else told
    return {feature[1:] for feature in listed.split(",") if feature.startswith("+")}


AVX512 = "avx512f" in features()
REGISTER = 16 if AVX512 else 8 if "avx2" in features() else 4  # float32 numbers in one
BFLOAT16 = "avx512bf16" in features()  # products of pairs of numbers
