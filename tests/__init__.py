"""The tests: a folder here tests the folder of common/ of the same name."""

import gc
import os

gc.set_threshold(50_000, 20, 20)  # as the training scripts do before they import their packages
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared out; before NumPy and PyTorch come
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
