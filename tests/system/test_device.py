"""Bfloat16 only where the processor has it."""

import pytest
import torch

from common.system.device import choose_precision
from common.system.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True}, {"avx512_bf16": False}])
def test_bf16_on_a_processor_without_it_is_refused_with_what_to_do(monkeypatch, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with pytest.raises(InputError) as refusal:
        choose_precision("bf16", CPU)
    assert "--precision bf16: this processor has no bfloat16" in str(refusal.value)
    assert str(refusal.value).endswith("use --precision fp32")


def test_bf16_is_taken_where_there_is_some(monkeypatch):
    capabilities = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("bf16", CPU) == "bf16"
