"""What the paper prints of its results: Table IV, the names of its rows, and the percentages of the text."""

from pathlib import Path

import pandas as pd

from aiecof.checks import check_calls, check_choice
from aiecof.study.grids import LEARNED
from aiecof.study.store import read_table

NAMES = {
    "toppo": "TOPPO",
    "dqn": "DQN",
    "double-dqn": "DoubleDQN",
    "dueling-dqn": "DuelingDQN",
    "d3qn": "D3QN",
    "ac": "AC",
    "a2c": "A2C",
    "random": "Random",
    "round-robin": "Round-Robin",
}
"""Method -> its row in Table IV."""
COLUMNS = ("delay", "energy", "drop_rate", "load")
"""The four objectives of Table IV."""
TABLE_IV = "paper/table_iv.csv"

PERCENTAGES: dict[str, dict[str, float]] = {
    "reward": dict(zip(LEARNED[1:], (8.36, 12.08, 8.43, 19.97, 11.61, 8.82), strict=True)),
    "energy": {"round-robin": 74.57, "random": 76.10}
    | {"dqn": 29.94, "double-dqn": 17.73, "dueling-dqn": 12.14, "ac": 4.56, "a2c": 4.64},
    "delay": {"round-robin": 66.11, "random": 68.09}
    | {"dqn": 21.48, "double-dqn": 10.91, "dueling-dqn": 7.09, "ac": 4.84, "a2c": 3.96},
}
"""Metric -> rival -> TOPPO's advantage in percent, as the text of Section V-C states it."""


def printed_rows(results: Path | None = None) -> pd.DataFrame:
    """Table IV as printed: one row an algorithm, columns `COLUMNS` and reward."""
    return read_table(TABLE_IV, results).set_index("algorithm")


def printed(metric: str, results: Path | None = None) -> pd.Series:
    """A column of the printed Table IV by our names of the methods."""
    rows = printed_rows(results)
    return rows[check_choice("metric", metric, tuple(rows))].rename({theirs: ours for ours, theirs in NAMES.items()})


check_calls(globals())
