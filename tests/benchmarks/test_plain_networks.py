"""The benchmarks' plain networks are the published ones too."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.plain_networks import PlainA2S2KResNet, PlainSSRN
from tests.networks.test_networks import CASES, golden_values, load_golden


@pytest.mark.parametrize("case", CASES)
def test_golden_values(case):
    golden, model, patches, labels = load_golden(case, torch.float64)
    plain = PlainSSRN(31, 5) if case == "ssrn" else PlainA2S2KResNet(31, 5, case[6:])
    plain.load_state_dict(model.state_dict())
    plain = plain.double()
    with torch.no_grad():
        logits = plain.eval()(patches)
    np.testing.assert_allclose(logits, golden["eval_logits"], rtol=1e-10, atol=1e-10)
    if case == "ssrn":
        plain.dropout.p = 0.0
    loss = F.cross_entropy(plain.train()(patches), labels)
    loss.backward()
    norms = {name: float(p.grad.norm()) for name, p in plain.named_parameters()}
    for name, expected in golden_values(golden, "grad_norm", case).items():
        assert norms[name] == pytest.approx(float(expected), rel=1e-8, abs=1e-12), name
