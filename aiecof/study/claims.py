"""What the paper claims of its results (`claims.toml`), and the verdict on each.

From the abstract, the contributions of Section I, Section V and the conclusion. Left out is what the paper itself puts
to no test (that doing without a cloud saves time), and the level of the reward, whose weights are not printed (R19).
"""

import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiecof.checks import check_calls
from aiecof.study import verdicts
from aiecof.study.evidence import ARM_NAMES, PRIMARY, Facts, NoResults, Where
from aiecof.study.grids import LEARNED, UNTRAINED
from aiecof.study.paper import NAMES, PERCENTAGES
from aiecof.study.verdicts import TOPPO, UNDECIDED, VERDICTS, Saves, Test


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    place : str
        Where it stands.
    statement : str
        What it says, in our words; where nothing else is named, of TOPPO.
    test : Test
        What decides it, with its numbers.
    """

    name: str
    place: str
    statement: str
    test: Test


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: one of `VERDICTS`, and the numbers behind it in one sentence."""

    claim: Claim
    verdict: str
    evidence: str

    @property
    def row(self) -> dict[str, str]:
        """Name, place, statement, verdict and evidence."""
        claim = {name: getattr(self.claim, name) for name in ("name", "place", "statement")}
        return claim | {"verdict": self.verdict, "evidence": self.evidence}


def _methods(*names: str) -> tuple[Where, ...]:
    return tuple({"method": name} for name in names)


GROUPS: dict[str, tuple[Where, ...]] = {
    "toppo": (TOPPO,),
    "learned": _methods(*LEARNED),
    "untrained": _methods(*UNTRAINED),
    "learned rivals": _methods(*LEARNED[1:]),
    "rivals": _methods(*UNTRAINED, *LEARNED[1:]),
    "ac, a2c": _methods("ac", "a2c"),
}
"""Name in `claims.toml` -> whose rows."""
NOT_RUN = "not run"
"""How the evidence begins where results are missing."""
_COMPARATIVES = {"reward": "higher", "energy": "lower", "delay": "shorter"}
_ALSO_IN_SECTION_I = ("energy-round-robin", "delay-round-robin")


def _percentages() -> Iterator[Claim]:
    """The claims of Section V-C that give a percentage for one rival."""
    for metric, percents in PERCENTAGES.items():
        for rival, percent in percents.items():
            name = f"{metric}-{rival}"
            place = "Sections I, V-C" if name in _ALSO_IN_SECTION_I else "Section V-C"
            statement = f"The {metric} is {percent:g} % {_COMPARATIVES[metric]} than under {NAMES[rival]}."
            yield Claim(name, place, statement, Saves(metric, (rival,), (percent, percent)))


def _value(name: str, value: Any) -> Any:
    """A parameter of a test: lists as tuples, a group by its name, nan as nothing."""
    if isinstance(value, str) and name in ("winners", "losers"):
        return GROUPS[value]
    if isinstance(value, list):
        return tuple(_value("", entry) for entry in value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _catalogue() -> Iterator[Claim]:
    path = Path(__file__).with_name("claims.toml")
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["claims"]:
        if entry.get("every") == "percentages":
            yield from _percentages()
            continue
        words = [entry.pop(key) for key in ("name", "place", "statement")]
        test = getattr(verdicts, entry.pop("test"))
        yield Claim(*words, test(**{name: _value(name, value) for name, value in entry.items()}))


CLAIMS = tuple(_catalogue())


def decide(claim: Claim, facts: Facts) -> Verdict:
    """The verdict on one claim."""
    try:
        return Verdict(claim, *claim.test.decide(facts))
    except NoResults as missing:
        return Verdict(claim, UNDECIDED, f"{NOT_RUN}: {missing}")


def claims(results: Path | None = None, arm: str = PRIMARY) -> list[Verdict]:
    """The verdict on every claim on an arm, in the paper's order, from the tables in a folder."""
    facts = Facts.of(results, arm)
    return [decide(claim, facts) for claim in CLAIMS]


def on_every_arm(results: Path | None = None) -> list[dict[str, Any]]:
    """One row a claim: name, place, statement, and its verdict on each arm."""
    facts = Facts.of(results)
    found = {arm: [decide(claim, facts.on(arm)) for claim in CLAIMS] for arm in ARM_NAMES}
    rows = []
    for index, claim in enumerate(CLAIMS):
        words = {arm: verdicts[index].verdict for arm, verdicts in found.items()}
        rows.append({"name": claim.name, "place": claim.place, "statement": claim.statement, "verdicts": words})
    return rows


def count(found: Iterable[Verdict]) -> dict[str, int]:
    """How many claims got each of `VERDICTS`, zeros included."""
    counted = Counter(entry.verdict for entry in found)
    return {verdict: counted[verdict] for verdict in VERDICTS}


check_calls(globals())
