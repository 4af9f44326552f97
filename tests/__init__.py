"""The tests: a folder here tests the folder of common/ of the same name."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared out; before NumPy and PyTorch come
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
