"""What the README and docs/ say of speed, made from what `benchmarks.run` measured."""

import statistics
from collections.abc import Sequence

NAMES = {"A2S2KResNet": "A2S2K-ResNet", "SSRN": "SSRN"}


def training_times(measured: dict) -> str:
    """Say how long training takes, and a plain version that gets as far; medians."""
    environment, precision = measured["environment"], measured["auto_precision"]
    seconds = {
        model: {version: statistics.median(times) for version, times in versions.items()}
        for model, versions in measured["values"]["training to the protocol's accuracy"].items()
    }
    fast, plain = (
        {model: f"{times[version]:,.0f} s" for model, times in seconds.items()}
        for version in (precision, "plain")
    )
    return (
        f"On {environment['threads']} threads of an {environment['device_name']} in {precision}, "
        f"`--recipe fast` trains A2S2K-ResNet in {fast['A2S2KResNet']} and SSRN in {fast['SSRN']}; "
        f"in float32, plain `nn.Conv3d` would take {plain['A2S2KResNet']} and {plain['SSRN']} for "
        f"the papers' protocol (its time per epoch, times the epochs of the published runs)."
    )


def steps_table(with_avx2: dict, with_bfloat16: dict) -> str:
    """Markdown table of a training step on two kinds of processors, a row for each network."""
    header = ["training step, ms", "AVX2: plain", "fp32", "×"]
    header += ["AVX512-BF16: plain", "fp32", "×", "bf16", "×"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for model, name in NAMES.items():
        row = [name]
        for measured, precisions in ((with_avx2, ("fp32",)), (with_bfloat16, ("fp32", "bf16"))):
            rounds = measured["values"]["training step"][model]
            row.append(_milliseconds(rounds["plain"]))
            for precision in precisions:
                ratios = map(float.__truediv__, rounds["plain"], rounds[precision])
                row += [_milliseconds(rounds[precision]), f"{statistics.median(ratios):.1f}"]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _milliseconds(rounds: Sequence[float]) -> str:
    return f"{statistics.median(rounds):.3g}"
