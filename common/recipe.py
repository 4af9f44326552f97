"""The ways to train: the papers' protocol, and one with far fewer updates."""

import dataclasses
import math
from dataclasses import dataclass, field

from common.settings import Settings
from common.system.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained beyond what the flags say.

    Attributes
    ----------
    defaults : dict
        What flags mean in this recipe that are not given.
    one_cycle : bool
        The learning rate climbs to ``--lr`` over the first `WARM_UP` of all updates and falls to
        zero along a cosine.  Otherwise it is ``--lr`` times ``--lr-decay`` per epoch.
    adam_beta2 : float
        Decay of Adam's mean of squared gradients.
    adamw_decay : float
        Share of every weight that AdamW takes off in an update, over the learning rate.
    label_smoothing : float
        Share of a training pixel's target that is spread over all classes.
    balance : float
        An epoch draws as many pixels as there are to train on.  With 0 it takes each once, with
        1 all classes equally often; in between, a class's share is its size to the 1 - `balance`.
        See `common.samples.even_draws`.
    symmetries : bool
        Each patch is turned or mirrored otherwise every time it is seen.
    occlusion : float
        Share of a patch's pixels, all but the central one, that are hidden each time it is seen,
        while the others are scaled up: see `patches.occluded`.  Haut et al., "Hyperspectral
        Image Classification Using Random Occlusion Data Augmentation", IEEE GRSL 2019, hide a
        rectangle of them.
    small_patches : float
        Share of the epochs, the first ones, in which patches are one pixel smaller on every side,
        where they then are 5×5 at least and the network takes them: half the time, for what can be
        learnt from these as well.
    early_stopping : bool
        Stop where that no longer lowers the validation loss.
    best_epoch : bool
        Validate after every epoch and go back to the one of the lowest validation loss.
        Otherwise validate once, at the end, and keep the last weights.
    rmsprop_decay : float
        Decay of RMSprop's mean of squared gradients.
    l2_convolutions, l2_classifier : float
        What the squares of the convolutions' and of the last layer's weights, added up, count in
        the loss, in training and in validation.
    """

    defaults: dict = field(default_factory=dict)
    one_cycle: bool = False
    adam_beta2: float = 0.999
    adamw_decay: float = 0.01
    label_smoothing: float = 0.0
    balance: float = 0.0
    symmetries: bool = False
    occlusion: float = 0.0
    small_patches: float = 0.0
    early_stopping: bool = True
    best_epoch: bool = True
    rmsprop_decay: float = 0.99
    l2_convolutions: float = 0.0
    l2_classifier: float = 0.0


WARM_UP = 0.25

FAST = Recipe(
    defaults={"epoch": 12, "lr": 3e-3, "optimizer": "adamw"},
    one_cycle=True,
    adam_beta2=0.99,
    adamw_decay=0.5,
    label_smoothing=0.1,
    balance=0.3,
    symmetries=True,
    occlusion=0.2,
    small_patches=0.5,
    early_stopping=False,
    best_epoch=False,
)
# The protocol of SSRN's authors, in their released code: github.com/zilongzhong/SSRN.
AUTHORS = Recipe(
    defaults={
        "epoch": 200,
        "optimizer": "rmsprop",
        "lr": 3e-4,
        "batch_size": 16,
        "preprocess": "standardise",
        "split": "authors",
        "valid_split": 0.8,
        "validation": 0.1,
        "seed": 1334,
    },
    early_stopping=False,
    rmsprop_decay=0.9,
    l2_convolutions=1e-4,
)
RECIPES = {"paper": Recipe(), "fast": FAST, "authors": AUTHORS}
OF_SCENE = {  # further defaults, where a scene has its own
    ("authors", "UP"): {"valid_split": 0.9, "validation": None},
}
# It drops half of its features: classes of few pixels must be seen more often.
OF_SSRN = dataclasses.replace(
    FAST, defaults=FAST.defaults | {"epoch": 16}, balance=0.5, occlusion=0.0
)
OF_NETWORK = {  # instead, where a network asks for something else
    # SSRN, and its parts, which are compared with it on equal terms.
    **{("fast", name): OF_SSRN for name in ("SSRN", "SPC", "SPA", "CNNL")},
    # What it sees is one pixel, whose scale must stay.
    ("fast", "SAE"): dataclasses.replace(FAST, occlusion=0.0),
    ("authors", "SAE"): dataclasses.replace(
        AUTHORS, defaults=AUTHORS.defaults | {"preprocess": "range"}
    ),
    # Its weights decay in the last layer only, as in the code of SSRN's authors, and its patches
    # can be no smaller.
    ("fast", "CNN"): dataclasses.replace(FAST, small_patches=0.0, l2_classifier=0.01),
    ("paper", "CNN"): Recipe(l2_classifier=0.01),
    ("authors", "CNN"): dataclasses.replace(AUTHORS, l2_convolutions=0.0, l2_classifier=0.01),
}


def recipe_of(settings: Settings) -> Recipe:
    """Return the recipe that ``--recipe`` names, for the network."""
    return OF_NETWORK.get((settings.recipe, settings.model), RECIPES[settings.recipe])


def with_recipe(settings: Settings, name: str) -> Settings:
    """Return the settings with the recipe's own defaults, for the network and the scene."""
    settings = dataclasses.replace(settings, recipe=name)
    defaults = recipe_of(settings).defaults | OF_SCENE.get((name, settings.dataset), {})
    return dataclasses.replace(settings, **defaults)


def check_recipe(settings: Settings) -> None:
    """Raise InputError where a flag means nothing in the recipe."""
    if recipe_of(settings).one_cycle and settings.lr_decay != 1:
        raise InputError(
            f"--lr-decay {settings.lr_decay:g}: --recipe {settings.recipe} has its own course of "
            f"the learning rate; leave --lr-decay out"
        )


def learning_rate(settings: Settings, epochs_done: float) -> float:
    """Return the rate of the update that is made after `epochs_done` epochs."""
    if not recipe_of(settings).one_cycle:
        return settings.lr * settings.lr_decay ** math.floor(epochs_done)
    done = epochs_done / settings.epoch
    if done < WARM_UP:
        return settings.lr * (0.04 + 0.96 * done / WARM_UP)
    return settings.lr * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def half_width(settings: Settings, recipe: Recipe, epoch: int) -> int:
    """Return the half-width p of the patches in an epoch, counted from 1."""
    small = epoch <= recipe.small_patches * settings.epoch
    return settings.patch - 1 if small and settings.patch > 2 else settings.patch
