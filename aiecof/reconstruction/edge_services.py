"""Trained policies and rules under the edge services that the compiled simulator does not know.

The decisions are those that were made in front of servers in the order of decisions; the plain event simulation then
serves the same tasks in another order (R12). So the difference is that of the service alone.
"""

from pathlib import Path

import pandas as pd

from aiecof.agents.learned import load_policy
from aiecof.agents.policies import record_actions
from aiecof.agents.rules import make_policy
from aiecof.checks import check_calls
from aiecof.files import results_folder
from aiecof.study.grids import KEPT, SWEEP_RULES
from aiecof.system import reference
from aiecof.system.scenario import READINGS, load_scenario
from aiecof.system.simulator import task_means
from aiecof.system.workload import draw_trace

EPISODES = 5
"""Held-out episodes of seed 0: the event simulation is about a thousand times slower."""


def replay_edge_services(results: Path | None = None) -> pd.DataFrame:
    """Delay [s], energy [J] and drop rate of the kept policies and some rules under every edge service.

    One row a scenario, method, edge service and episode.
    """
    rows = []
    for name in dict.fromkeys(scenario for scenario, _ in KEPT):
        scenario = load_scenario(name)
        trace = draw_trace(scenario, EPISODES, 0)
        place = (results or results_folder()) / "policies"
        players = {
            method: load_policy(place / f"{name}-{method}.safetensors", streams="batch")[0]
            for s, method in KEPT
            if s == name
        }
        players |= {rule: make_policy(rule, scenario) for rule in SWEEP_RULES}
        for method, policy in players.items():
            actions = record_actions(policy, scenario, trace)
            for service in READINGS["edge_service"]:
                tasks = reference.simulate(scenario.replace(edge_service=service), trace, actions)
                labels = {"scenario": name, "method": method, "edge_service": service}
                rows.append(pd.DataFrame(labels | {"episode": range(EPISODES)} | task_means(tasks, scenario)))
    return pd.concat(rows, ignore_index=True)


check_calls(globals())
