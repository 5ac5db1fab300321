"""What is compared, and over what: methods, scenarios, seeds and the values of each sweep. Nothing is imported here."""

TRAINING, EVALUATION = 100, 20
"""Episodes: of a training (Algorithm 1's e_max has no value; Figs. 3, 5 and 6 show about as many), of an evaluation."""
QUICK_TRAINING, QUICK_EVALUATION = 10, 3
"""The same in the quick profile: enough to see curves rise, too little to judge by."""

LEARNED = ("toppo", "dqn", "double-dqn", "dueling-dqn", "d3qn", "ac", "a2c")
"""The learned rows of Table IV."""
UNTRAINED = ("random", "round-robin")
"""Its rows without learning."""
SWEEP_RULES = ("random", "round-robin", "always-local", "greedy", "frugal", "threshold-power-of-two")
"""Rules beside the learned methods in the sweeps: the paper's two, and four on a device's own observation."""
BOUND = "lower-bound"
"""Not a method: what none can go below (`lower_bound`)."""
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "TOPPO": ("toppo", {}),
    "no clipping": ("toppo", {"clip_range": 1e6}),
    "no step limit": ("toppo", {"target_kl": None}),
    "neither": ("toppo", {"clip_range": 1e6, "target_kl": None}),
    "entropy bonus": ("toppo", {"ent_coef": 0.01}),
    "no memory (PPO)": ("ppo", {}),
    "four observations (PPO)": ("ppo-stacked", {}),
    "Transformer": ("toppo-transformer", {}),
}
"""TOPPO less one of its parts, or with another in its place: method and changed hyperparameters."""
KEPT = tuple((scenario, method) for scenario in ("balanced", "fitted") for method in ("toppo", "dqn", "a2c"))
"""Whose policy of seed 0 is kept in `results/policies/`, so that it can be replayed without training."""

DEVICES = (20, 30, 40, 50, 60)
"""Fig. 8: M."""
CAPACITIES = (0.5, 1.0, 1.5)
"""Fig. 9: factors on the clocks of all servers."""
ARRIVALS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Fig. 4: arrival probabilities."""
SIZES = {"A": (2e6, 4e6), "B": (5e6, 8e6)}
"""Fig. 4: kinds of tasks and their sizes [bit]."""
RATES = ((1e-3, 1e-3), (1e-3, 1e-4), (1e-4, 1e-3), (1e-4, 1e-4), (1e-2, 1e-2))
"""Fig. 3(a): learning rates of actor and critic."""
BATCHES = (60, 120, 300, 1000)
"""Fig. 3(b): whole sequences of 10; 60 is nearest to the paper's 64."""
DISCOUNTS = (0.0, 0.5, 0.9, 0.99)
"""Fig. 3(c): gamma."""
JUDGED = ("toppo", "dqn", "a2c", "always-local", "frugal", "threshold-power-of-two")
"""Methods that play under every other reading."""
UNPLAYED = ("delay_mean", "energy_mean", "load_mean", "edge_service", "cost_units", "cost_load")
UNPLAYED += ("clocks_seen", "backlog_seen")
"""Readings that change no decision and need no training, that need another simulator, or that go beyond the paper."""
UNPLAYED_VALUES = (
    ("load", "literal_seconds"),
    ("kinds_by", "device"),
    *(("observation", value) for value in ("printed_mean", "acknowledged", "oracle")),
)
"""Single values that do not play: for the search over readings, the arms, mixtures of kinds, and beyond the paper."""

REPRESENTATIVES = ("plain", "nine-rows")
"""The networks that stand for all reconstructions of Table IV (the plan)."""
_AS_PRINTED = {
    "energy_reference": "own_history",
    "load_sign": "plus",
    "dropped_energy_term": "printed",
    "failure_scope": "offloaded",
    "dropped_energy": "full",
    "observation": "printed",
}
ARMS: dict[str, dict[str, str]] = {
    "printed": _AS_PRINTED,
    "shown": _AS_PRINTED | {"observation": "printed_mean"},
    "mended": {"dropped_energy": "spent"},
    "spent": _AS_PRINTED | {"dropped_energy": "spent"},
    "extended": _AS_PRINTED | {"observation": "extended"},
}
"""Arm -> readings of the reward and of the observation that it changes."""
MEMORY_ARMS, MEMORIES = ("printed", "shown"), ("ppo", "ppo-stacked", "toppo-transformer")
"""Where methods with another memory play beside TOPPO, and which."""
PRINTED_VALUES = {
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "gamma": 0.9,
    "batch_size": 64,
    "sequence_length": 4,
}
"""The printed hyperparameters, with sequences that divide the batch; a method takes those that it has."""
HEADS = ("head", {"flat": {}, "two levels": {"action_head": "two_level"}}, ("printed", "spent"))
"""TOPPO's decision as one choice, or in the two steps of Section III-A (R63), and the arms on which both are tried."""
CARRIED = ("memory", {"carried": {}, "window": {"memory": "lstm_window"}}, ("printed",))
"""TOPPO's memory carried through the episode, or begun anew at each decision over the last slots (R64)."""
SMALL_BATCHES = (16, 32, 64, 300, 1000)
"""Fig. 3(b) on the arms: in sequences of 4, below the paper's 64 as well."""
FEW_DEVICES = (20, 30, 60)
"""Fig. 8 on the arms: both ends, and the network of Table IV."""
COIN = 0.78
"""Share at home of the coin in the sweeps: what the printed reward pays most on `plain`."""
KNOWS = {
    "threshold-power-of-two": "its queue and the servers', one threshold",
    "greedy": "the equations, and what it sees of clocks and channels",
    "frugal": "the equations, and what it sees of clocks and channels",
}
"""What a rule of the sweeps has to know, where its registry says no more than that it is its own."""
SEARCH = "tuned_search.csv"
"""The table of the search for hyperparameters, whose best are trained anew."""
SEARCHED = (("plain", "printed"), ("balanced", ""))
"""Where every method is searched for: network and arm, "" for the network as it is."""
COINS = tuple(round(0.5 + 0.04 * step, 2) for step in range(13))
"""Shares at home of the coins beside the learned methods."""

BEYOND_LEARNED = ("toppo", "ppo", "dqn", "a2c")
"""Learned methods on the bursty workload."""
HIDDEN = ("hidden-clocks", "fading", "slow-fading", "background", "beacons")
"""Scenarios that hide one thing each."""
WORTH_KNOWING = HIDDEN[:4]
"""Those of them where seeing it is worth more than `WORTH` to the best rule (`knowing`)."""
WORTH = 5.0
"""Units of reward from which on a memory has something to find out."""
KEEPING = {"sequence_length": 50, "policy_kwargs": {"forget_bias": 2.0}}
"""Changes of a TOPPO that is helped to remember: gradients through half an episode, an LSTM that starts out keeping."""
RECALLING = (
    ("shown", "registered", ("toppo", "ppo-stacked", "ppo", "toppo-transformer"), {}),
    ("shown", "keeping", ("toppo",), KEEPING),
    ("everything", "registered", ("toppo", "ppo"), {}),
)
"""What is seen, which hyperparameters, the methods that are trained, and their changes."""
LONG_TRAINING = 200
"""Episodes of a training where a memory has to be learned first."""
FEW_COINS, WAITS = (0.05, 0.2, 0.4, 0.6, 0.8), (1.0, 2.0, 3.0, 5.0)
"""Values of rules beyond the paper: shares at home, and longest waits at home [slots]."""
CROWDS = (30, 100, 300, 1000)
"""Numbers of devices, the first of which a policy is trained with and played with the others."""
SCALED = ("toppo", "toppo-transformer", "mappo", "a2c", "dqn")
"""Methods for a thousand devices."""
CROWD_RULES = ("random", "always-local", "greedy", "frugal", "threshold-power-of-two", "mixture-random")
"""Rules beside them."""
UNSTRESSED = 0.04
"""Weight of an aim that a training is not about."""
