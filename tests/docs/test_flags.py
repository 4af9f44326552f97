"""docs/flags.md lists the flags that there are, with their defaults; the README some of them."""

import dataclasses
import re

import pytest

from A2S2KResNet.A2S2KResNet import DEFAULTS
from baselines.SVM import DEFAULTS as SVM
from common.__main__ import PROGRAMS
from common.recipe import with_recipe
from common.run.cli import build_parser
from SSRN.SSRN import DEFAULTS as SSRN
from tests.docs.pages import code, page, rows

OF = {  # whose flags → the word in the table's last column
    "A2S2KResNet": (DEFAULTS, {"all", "networks", "A2S2K-ResNet"}),
    "SSRN": (SSRN, {"all", "networks"}),
    "SVM": (SVM, {"all", "SVM"}),
}
LISTED = [  # a flag stands twice where its default depends on the model
    (tuple(code(flags)), meaning, default, of)
    for flags, meaning, default, of in (r for r in rows(page("docs/flags.md")) if len(r) == 4)
    if flags.startswith("`")
]
FROM_THE_MACHINE = ("--data-dir", "--out")  # their defaults are no plain values


def actions(defaults):
    """Actions of a parser by their flags, without --help."""
    found = {tuple(action.option_strings): action for action in build_parser(defaults)._actions}
    return {flags: action for flags, action in found.items() if "--help" not in flags}


def listed(words: set[str]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Meaning and default of the flags that some models have."""
    found = [(flags, (meaning, default)) for flags, meaning, default, of in LISTED if of in words]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("model", OF)
def test_the_flags_are_those_of_the_parser(model):
    defaults, words = OF[model]
    assert set(listed(words)) == set(actions(defaults))
    assert {of for *_, of in LISTED} == set().union(*(words for _, words in OF.values()))


@pytest.mark.parametrize("model", OF)
def test_the_defaults_are_those_of_the_parser(model):
    defaults, words = OF[model]
    for flags, action in actions(defaults).items():
        stated, value = listed(words)[flags][1], getattr(defaults, action.dest)
        if flags[-1] not in FROM_THE_MACHINE:
            assert stated == (f"`{value}`" if value else ""), flags


def test_the_choices_are_those_of_the_parser():
    defaults, words = OF["A2S2KResNet"]
    for flags, action in actions(defaults).items():
        if action.choices:
            assert set(action.choices) <= set(code(listed(words)[flags][0])), flags


def test_defaults_of_the_fast_recipe():
    stated = {
        code(r[0])[0]: r[1:] for r in rows(page("docs/flags.md")) if len(r) == 3 and code(r[0])
    }
    for column, defaults in enumerate((DEFAULTS, SSRN)):
        fast = dataclasses.asdict(with_recipe(defaults, "fast"))
        changed = dict(fast.items() - dataclasses.asdict(defaults).items())
        del changed["recipe"]
        assert {f"--{name}": f"`{value}`" for name, value in changed.items()} == {
            flag: cells[column] for flag, cells in stated.items()
        }


def test_the_other_programs_are_named():
    sentence = r"^(`.*) each list their flags with `--help`\.$"
    (line,) = re.findall(sentence, page("docs/flags.md"), re.MULTILINE)
    assert code(line) == list(PROGRAMS)


def test_the_readme_says_the_same_of_some():
    short = {flags[0]: default for flags, (_, default) in listed(OF["SSRN"][1]).items()}
    some = [r for r in rows(page("README.md")) if len(r) == 3 and r[0].startswith("`-")]
    assert len(some) > 5
    for flag, _, default in some:
        assert short[code(flag)[0]].removesuffix(" in the repository") == default
