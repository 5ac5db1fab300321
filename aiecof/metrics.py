"""What an episode is measured by: one table for simulator, results, figures, verdicts and commands."""

from math import inf
from typing import NamedTuple

SHARE, AMOUNT, ANY = (0.0, 1.0), (0.0, inf), (-inf, inf)
"""Lowest and highest value of a share, of an amount, and of what may be anything."""


class Metric(NamedTuple):
    """A measure of an episode.

    title, label : str
        Heading of a table, and axis of a figure.
    unit : str
        Empty if it has none.
    better : int
        1 if more is better, -1 if less is.
    within : (float, float)
        Lowest and highest value there can be.
    """

    title: str
    label: str
    unit: str
    better: int
    within: tuple[float, float] = ANY

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def axis(self) -> str:
        """Label and unit, "-" for none."""
        return f"{self.label} [{self.unit or '-'}]"


METRICS: dict[str, Metric] = {
    "delay": Metric("Delay", "delay of a task", "s", -1, AMOUNT),
    "energy": Metric("Energy", "energy of a task", "J", -1, AMOUNT),
    "drop_rate": Metric("Drop rate", "share of dropped tasks", "", -1, SHARE),
    "load": Metric("Load", "load of a device", "", 1, SHARE),
    "reward": Metric("Reward", "reward of an episode", "", 1),
    "local_share": Metric("Local share", "share of local tasks", "", 1, SHARE),
    "cost": Metric("Objective (26)", "objective (26)", "", -1),
}
"""Name -> metric, in the order of `Simulator.metrics`."""
