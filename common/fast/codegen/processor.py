"""What the processor at hand can do."""

import llvmlite.binding

_FEATURES = llvmlite.binding.get_host_cpu_features()
AVX512 = _FEATURES.get("avx512f", False)
BFLOAT16 = _FEATURES.get("avx512bf16", False)  # products of pairs of numbers
