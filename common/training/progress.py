"""A progress bar per iteration on a terminal; now and then a plain line in a file."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from common.recipe import Recipe, half_width
from common.settings import Settings
from common.training.history import Epoch

SECONDS_BETWEEN_LINES = 30
# Of a line on a terminal: with a bar, or without.
BAR = "{desc} {percentage:3.0f}% |{bar}| at most {remaining} left"
TIME = "{desc}, {remaining} left"
TIME_LEFT, LEAST_BAR = len(", 00:00:00 left"), len(" 100% || at most") + 8


@contextmanager
def epoch_progress(
    title: str, settings: Settings, recipe: Recipe, done: Sequence[Epoch] = ()
) -> Iterator[Callable[[Epoch], None]]:
    """Yield a function to call with each finished epoch; it shows how training goes on stderr.

    Parameters
    ----------
    title : str
        What is being trained, for example "iteration 1/3".
    settings, recipe : Settings, Recipe
        They say how many epochs there are at most, and how long each takes beside the others.
    done : sequence of Epoch
        Those before the checkpoint from which training goes on; they take no time here.
    """
    widths = [2 * half_width(settings, recipe, number + 1) + 1 for number in range(settings.epoch)]
    pixels = [width**2 for width in widths]
    on_terminal = sys.stderr.isatty() and shutil.get_terminal_size((0, 0)).columns
    with (_bar if on_terminal else _lines)(title, pixels, done) as show:
        yield show


@contextmanager
def _bar(title: str, pixels: list[int], done: Sequence[Epoch]) -> Iterator[Callable[[Epoch], None]]:
    before = sum(pixels[: len(done)])
    with tqdm(
        total=sum(pixels), initial=before, desc=title, bar_format=BAR, dynamic_ncols=True
    ) as bar:

        def describe(epoch: Epoch) -> None:
            columns = shutil.get_terminal_size().columns
            bar.bar_format, text = _layout(title, epoch, len(pixels), columns)
            bar.set_description_str(text, refresh=False)

        def show(epoch: Epoch) -> None:
            describe(epoch)
            bar.update(pixels[epoch.epoch - 1])

        if done:
            describe(done[-1])
            bar.refresh()
        yield show


@contextmanager
def _lines(
    title: str, pixels: list[int], done: Sequence[Epoch]
) -> Iterator[Callable[[Epoch], None]]:
    before = sum(pixels[: len(done)])
    start, last_line, latest = time.monotonic(), -float("inf"), None

    def print_line(epoch: Epoch) -> None:
        seconds, made = time.monotonic() - start, sum(pixels[: epoch.epoch]) - before
        if not made:  # that of the checkpoint
            seconds, made = epoch.seconds, pixels[epoch.epoch - 1]
        left = seconds / made * sum(pixels[epoch.epoch :])
        line = f"{title}: epoch {epoch.epoch}/{len(pixels)}, {_figures(epoch)}"
        print(f"{line}, at most {tqdm.format_interval(left)} left", file=sys.stderr, flush=True)

    def show_seldom(epoch: Epoch) -> None:
        nonlocal last_line, latest
        latest = epoch
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line, latest = time.monotonic(), None
            print_line(epoch)

    if done:
        show_seldom(done[-1])
    yield show_seldom
    if latest is not None:
        print_line(latest)


def _layout(title: str, epoch: Epoch, epochs: int, columns: int) -> tuple[str, str]:
    """Return tqdm's layout and the text in it that fit a terminal: the losses go last.

    First the bar goes, then the time left, then the accuracy.
    """
    head, short = f"{title}: epoch {epoch.epoch}/{epochs}", f"{title}: {epoch.epoch}/{epochs}"
    layouts = [
        (BAR, f"{head}, {_figures(epoch)}", TIME_LEFT + LEAST_BAR),
        (TIME, f"{head}, {_figures(epoch)}", TIME_LEFT),
        ("{desc}", f"{head}, {_figures(epoch)}", 0),
        (TIME, f"{head}, {_losses(epoch)}", TIME_LEFT),
        ("{desc}", f"{head}, {_losses(epoch)}", 0),
        ("{desc}", f"{short}, {_losses(epoch)}", 0),
    ]
    fitting = (pair for *pair, more in layouts if len(pair[1]) + more < columns)
    layout, text = next(fitting, ("{desc}", f"{short}, {_losses(epoch)}"[: columns - 1]))
    return layout, text


def _figures(epoch: Epoch) -> str:
    if math.isnan(epoch.train_accuracy):  # without labels
        return _losses(epoch)
    if math.isnan(epoch.validation_accuracy):  # not validated, or diverged
        return f"acc {100 * epoch.train_accuracy:.2f} %, {_losses(epoch)}"
    return f"val acc {100 * epoch.validation_accuracy:.2f} %, {_losses(epoch)}"


def _losses(epoch: Epoch) -> str:
    of_validation = f", val loss {epoch.validation_loss:.4f}"
    has_none = math.isnan(epoch.validation_accuracy)
    return f"loss {epoch.train_loss:.4f}{'' if has_none else of_validation}"
