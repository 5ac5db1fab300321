"""What an episode is measured by: one table for simulator, results, figures, verdicts and commands."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A measure of an episode.

    title, label : str
        Heading of a table, and axis of a figure.
    unit : str
        Empty if it has none.
    better : int
        1 if more is better, -1 if less is.
    """

    title: str
    label: str
    unit: str
    better: int

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def axis(self) -> str:
        """Label and unit, "-" for none."""
        return f"{self.label} [{self.unit or '-'}]"


METRICS: dict[str, Metric] = {
    "delay": Metric("Delay", "delay of a task", "s", -1),
    "energy": Metric("Energy", "energy of a task", "J", -1),
    "drop_rate": Metric("Drop rate", "share of dropped tasks", "", -1),
    "load": Metric("Load", "load of a device", "", 1),
    "reward": Metric("Reward", "reward of an episode", "", 1),
    "local_share": Metric("Local share", "share of local tasks", "", 1),
    "cost": Metric("Objective (26)", "objective (26)", "", -1),
}
"""Name -> metric, in the order of `Simulator.metrics`."""
