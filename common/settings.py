"""The settings of a run: one field per flag of the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Every flag of a training script, with the value it had.

    Names are the flags' long names.  A model's own defaults stand in its script; None is what a
    model has not, as an SVM has no epochs.
    """

    model: str
    dataset: str = "IN"
    epoch: int | None = 200
    iter: int = 3
    patch: int = 3
    kernel: int | None = 24
    valid_split: float = 0.9
    optimizer: str | None = "adam"
    attention: str | None = None  # A2S2K-ResNet only
    input: str | None = None  # SVM only
    split: str | tuple[str, str] = "random"
    per_class: int | None = None
    validation: float | None = None
    seed: int = 1331
    batch_size: int | None = 16
    lr: float | None = 1e-3
    lr_decay: float | None = 1.0
    recipe: str | None = "paper"
    preprocess: str | None = "pca"
    components: int | None = None
    fit_on: str | None = "scene"
    class_weights: str | None = "none"
    start_from: str | None = None
    data_dir: str | None = None
    out: str | None = None
    overwrite: bool = False
    resume: bool = False
    cluster: str | None = None
    weights: str | None = None
    device: str | None = "auto"
    precision: str | None = "auto"
    map: str = "labelled"
    probabilities: bool = False

    def network_arguments(self) -> dict:
        """Keyword arguments of the network's constructor beyond bands and classes."""
        arguments = {"kernels": self.kernel, "attention": self.attention}
        return {name: value for name, value in arguments.items() if value is not None}
