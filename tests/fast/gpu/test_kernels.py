"""The kernels compile for a GPU as they are called: what the interpreter takes may be too much."""

import os
import subprocess
import sys

import pytest

from common.system.files import REPOSITORY

pytest.importorskip("triton", reason="Triton is there for Linux only")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_kernel_compiles_for_an_h100(precision, tmp_path):
    command = [sys.executable, "-m", "tests.fast.gpu.compile_kernels", precision]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    output = subprocess.check_output(command, cwd=REPOSITORY, env=environment, text=True)
    assert int(output) == 14  # all there are
