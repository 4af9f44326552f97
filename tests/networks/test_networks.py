"""Both networks against golden values computed in float64 with the published networks."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from A2S2KResNet.A2S2KResNet import A2S2KResNet, ResidualBlock
from SSRN.SSRN import SSRN
from tests.conftest import GOLDEN

CASES = ["a2s2k_official", "a2s2k_paper", "ssrn"]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]

# Stored by the released code, but never used in its forward pass.
UNUSED = ("spectral_block_2.bn2.", "spatial_block_1.bn2.")


def build(case: str, bands: int, classes: int) -> torch.nn.Module:
    if case == "ssrn":
        return SSRN(bands, classes)
    return A2S2KResNet(bands, classes, attention=case.removeprefix("a2s2k_"))


def golden_values(golden, kind: str, case: str) -> dict[str, np.ndarray]:
    """The golden arrays of one kind ("param" or "grad_norm") by parameter name."""
    unused = () if case == "ssrn" else UNUSED
    return {
        key.removeprefix(f"{kind}/"): golden[key]
        for key in golden.files
        if key.startswith(f"{kind}/") and not key.removeprefix(f"{kind}/").startswith(unused)
    }


def load_golden(case: str, dtype: torch.dtype):
    golden = np.load(GOLDEN / f"{case}.npz")
    model = build(case, bands=31, classes=5)
    state = {name: torch.from_numpy(v) for name, v in golden_values(golden, "param", case).items()}
    for name in state:
        if name.endswith("efr.weight"):
            state[name] = state[name][:, :, 1]  # only the middle row of the released 3×3 acts
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    patches = torch.from_numpy(golden["x"]).to(dtype)
    return golden, model.to(dtype), patches, torch.from_numpy(golden["y"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_evaluation_logits(case, dtype, tolerance):
    golden, model, patches, _ = load_golden(case, dtype)
    with torch.no_grad():
        logits = model.eval()(patches)
    np.testing.assert_allclose(logits, golden["eval_logits"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_training_logits_loss_and_gradients(case, dtype, tolerance):
    golden, model, patches, labels = load_golden(case, dtype)
    model.train()
    if case == "ssrn":
        model.dropout.p = 0.0  # the golden values were computed with dropout off
    logits = model(patches)
    loss = F.cross_entropy(logits, labels)
    loss.backward()

    logits, loss = logits.detach(), loss.detach()
    np.testing.assert_allclose(logits, golden["train_logits"], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(loss, golden["train_loss"], rtol=tolerance, atol=tolerance)
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    expected = golden_values(golden, "grad_norm", case)
    assert gradients.keys() == expected.keys()
    for name, norm in gradients.items():
        np.testing.assert_allclose(
            norm, expected[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize(
    ("case", "parameters"),
    [("a2s2k_official", 370_736), ("a2s2k_paper", 373_160), ("ssrn", 364_168)],
)
def test_parameter_count_at_indian_pines_size(case, parameters):
    model = build(case, bands=200, classes=16)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [5, 7, 9, 11])
@pytest.mark.parametrize("bands", [7, 30, 31])
def test_every_odd_patch_and_any_bands(case, size, bands):
    logits = build(case, bands, classes=3).eval()(torch.zeros(2, 1, size, size, bands))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 3, 3), (1, 5, 7), (2, 5, 5), (30, 5, 5)])
def test_patches_without_a_centre_or_too_small_are_refused(case, shape):
    with pytest.raises(ValueError, match=r"must be \(batch, 1, P, P, bands\), P odd"):
        build(case, 30, classes=3)(torch.zeros(2, *shape, 30))


def test_official_attention_never_selects():
    attention = A2S2KResNet(31, 5, attention="official").attention
    weights = attention.weights(torch.randn(2, 4, 24))
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_paper_attention_selects_and_sums_to_one():
    attention = A2S2KResNet(31, 5, attention="paper").attention
    weights = attention.weights(torch.randn(2, 4, 24))
    assert not torch.allclose(weights, torch.full_like(weights, 0.5), atol=1e-3)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(4, 24))


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="'paper' or 'official'"):
        A2S2KResNet(31, 5, attention="none")


def test_unknown_block_form_is_refused():
    with pytest.raises(ValueError, match="'start', 'middle' or 'end'"):
        ResidualBlock(24, (1, 1, 7), form="strat")


def test_ssrn_drops_half_before_the_classifier():
    assert SSRN(31, 5).dropout.p == 0.5
