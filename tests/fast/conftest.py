"""Two threads, whatever the run of the tests leaves each process: loops are shared out for real."""

import pytest
import torch


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
