"""Faults tried for real: a few of each on every run of the tests, all with ``--full``.

``python -m pytest tests/reliability --full`` also writes ``results/published/reliability.json``,
from which ``python -m common readme`` makes the table of docs/reliability.md.
"""
