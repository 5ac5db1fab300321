"""The playground in a browser: its numbers against the package, its use by keyboard, by touch and without scripts."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from aiecof_book import playground
from axe_playwright_python.sync_playwright import Axe

from aiecof.agents.policies import evaluate
from aiecof.agents.rules import longest_service_slots, make_policy
from aiecof.checks import InvalidInput
from aiecof.drawing.style import called
from aiecof.study import grids, paper, print_limits
from aiecof.system import model, reference
from aiecof.system.kernels import COMPLETED, DROPPED
from aiecof.system.scenario import Weights, load_scenario
from aiecof.system.simulator import Simulator
from aiecof.system.workload import Trace, draw_trace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = [load_scenario(name) for name in ("balanced", "fitted", "table-iii")]
RULES = {"Random": "random", "Threshold": "threshold-power-of-two", "Greedy": "greedy"}
OTHERS = {"server_rounding": "ceil", "transmission_rounding": "none", "dropped_energy": "none"}
PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Playground</title></head><body><main>{}</main>'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of a page, with the scripts where the book has them."""
    folder = tmp_path_factory.mktemp("site") / "notebooks"
    folder.mkdir()
    (folder.parent / "_static").mkdir()
    for path in (ROOT / "book/_static").glob("playground*"):
        shutil.copy(path, folder.parent / "_static")
    return folder


@pytest.fixture
def visit(browser, site):
    """Open a page with a fragment; in the end nothing may have gone wrong or come from elsewhere than a file."""
    wrong, contexts = [], []

    def opened(fragment, **options):
        (site / "page.html").write_text(PAGE.format(fragment), encoding="utf-8")
        contexts.append(browser.new_context(**{"reduced_motion": "reduce"} | options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
        page.goto((site / "page.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def episode():
    """Three rules on one trace: the scenario, its trace, what the simulator says, and the replay."""
    scenario = SCENARIOS[0]
    policies = {name: make_policy(rule, scenario) for name, rule in RULES.items()}
    trace = draw_trace(scenario, 1, seed=3)
    runs = {name: evaluate(policy, scenario, trace, record=True) for name, policy in policies.items()}
    return scenario, trace, runs, playground.replay(policies, scenario, trace)


def move(page, **values):
    """Set sliders as a reader would, and return every number on the page by its key."""
    return page.evaluate(
        """(values) => {
            for (const [name, value] of Object.entries(values)) {
                const input = document.querySelector(`input[data-name="${name}"]`);
                input.value = value;
                input.dispatchEvent(new Event("input", { bubbles: true }));
            }
            const found = {};
            for (const node of document.querySelectorAll("[data-key]")) found[node.dataset.key] = node.dataset.value;
            return found;
        }""",
        values,
    )


def draws(page, rng, count):
    """Random positions of every slider of the page, on its steps."""
    ranges = page.evaluate(
        """() => [...document.querySelectorAll("input[type=range]")].map((input) =>
            [input.dataset.name, Number(input.min), Number(input.max), Number(input.step)])"""
    )
    for _ in range(count):
        yield {name: low + step * int(rng.integers((high - low) / step + 1)) for name, low, high, step in ranges}


def simulated(scenario, task):
    """The task on its device and on a server, by the simulator: two records, and the load in its first slot."""
    changes = {"devices": 1, "servers": 1, "slots": 60, "in_flight": "complete"}
    changes |= {"energy_reference": "own_history", "cost_units": "si"}
    changes |= {"tau_max_slots": int(task["tau_max_slots"]), "transmission_power": task["transmission_power"]}
    small = scenario.replace(**changes)
    size, density = np.zeros((2, 60, 1)), np.full((2, 60, 1), task["density"])
    size[:, 0] = task["size"]
    noise = scenario.transmission_power / (2.0 ** (scenario.transmission_rate / playground.BANDWIDTH) - 1.0)
    rate = model.transmission_rate(playground.BANDWIDTH, task["gain"], task["transmission_power"], noise)
    clocks = (np.full((2, 1), task[f"{place}_frequency"]) for place in ("device", "server"))
    trace = Trace(size, density, np.where(size > 0, 0, -1), *clocks, np.full((2, 1, 1), rate))
    simulator = Simulator(small, record=True)
    simulator.reset(trace)
    queues = ("device", "server") if scenario.readings.channel_queue == "none" else ("device", "channel", "server")
    for place in queues:
        getattr(simulator, f"{place}_end")[:] = task[f"{place}_backlog"] - 1.0
    simulator.step(np.array([[0], [1]]))
    home, away = simulator.tasks[:, 0, 0]
    return home, away, simulator.load[0, int(home["wait_slots"]), 0], rate


def expected_terms(scenario, task, rate):
    """Every term by its equation: the whole of it, also of a dropped task."""
    step, readings, power = scenario.slot_duration, scenario.readings, scenario.waiting_power
    work, c = (task["size"], task["density"]), scenario.switched_capacitance
    wait = model.waiting_delay(task["device_backlog"] - 1.0, 0.0)
    queue = model.waiting_delay(task["channel_backlog"] - 1.0, 0.0) if readings.channel_queue != "none" else 0.0
    sending = model.transmission_delay(work[0], rate, step, readings.transmission_rounding == "ceil")
    clocks = task["device_frequency"], task["server_frequency"]
    computing = [model.computing_energy(c, clock, *work) for clock in clocks]
    rounded = readings.server_rounding == "ceil"
    at_server, served = model.edge_delay(
        task["server_backlog"] - 1.0, queue + sending, *work, clocks[1], step, rounded=rounded
    )
    return {
        "device.wait": wait,
        "device.service": model.computing_delay(*work, clocks[0], step, readings.device_rounding == "ceil"),
        "device.energy_waiting": model.waiting_energy(power, wait, step),
        "device.power": model.computing_power(c, clocks[0]),
        "device.energy_computing": computing[0],
        "device.energy": model.total_energy(model.waiting_energy(power, wait, step), computing[0]),
        "server.rate": rate,
        "server.queue": queue,
        "server.sending": sending,
        "server.service": served,
        "server.energy_radio": model.transmission_energy(task["transmission_power"], work[0], rate),
        "server.power": model.computing_power(c, clocks[1]),
        "server.energy_computing": computing[1],
    }, at_server


def compare(scenario, found):
    """Hold the board's numbers against `model` and against the simulator."""
    task = {name: float(value) for name, value in found.items() if "." not in name}
    home, away, load, rate = simulated(scenario, task)
    terms, at_server = expected_terms(scenario, task, rate)
    booked = {place: sum(row[f"{part}_energy"] for part in ("waiting", "transmission", "computing"))
              for place, row in (("device", home), ("server", away))}  # fmt: skip
    for place, row in (("device", home), ("server", away)):
        assert found[f"{place}.dropped"] == str(row["fate"] == DROPPED).lower()
        terms |= {f"{place}.end": row["end_slot"], f"{place}.delay": row["delay_slots"]}
        terms |= {f"{place}.booked": booked[place]}
    if away["fate"] == COMPLETED:  # the simulator books the wait in either reading; a dropped task is cut short
        at_server = away["wait_slots"]
    static = model.waiting_energy(scenario.waiting_power, at_server, scenario.slot_duration)
    edge = model.edge_energy(static, terms["server.energy_computing"])
    terms |= {"server.wait": at_server, "server.energy_waiting": static, "server.energy_edge": edge}
    terms |= {"server.energy": edge + terms["server.energy_radio"], "device.load": load}
    shown = {name: float(value) for name, value in found.items() if "." in name and not name.endswith("dropped")}
    assert shown == pytest.approx(terms, rel=1e-12, abs=1e-12)
    return home["fate"], away["fate"]


@pytest.mark.parametrize("scenario", [*SCENARIOS, SCENARIOS[0].replace(name="others", **OTHERS)], ids=lambda s: s.name)
def test_one_task_costs_what_the_package_says(visit, scenario):
    page, rng, fates = visit(playground.task_sliders([SCENARIOS[0], scenario])), np.random.default_rng(1), set()
    page.locator("select").select_option(called(scenario.name))
    start = move(page)
    assert float(start["size"]) == 6e6 and float(start["tau_max_slots"]) == scenario.tau_max_slots
    assert float(start["server.rate"]) == pytest.approx(scenario.transmission_rate)
    compare(scenario, start)
    for values in draws(page, rng, 12):
        fates |= set(compare(scenario, move(page, **values)))
    assert fates == {COMPLETED, DROPPED}  # or the drops would be untested
    # Exactly four slots of work behind four others: in time with a deadline of eight, late with one of seven.
    exact = {"size": 4, "density": 400, "device_frequency": 4, "device_backlog": 4}
    assert compare(scenario, move(page, **exact, tau_max_slots=8))[0] == COMPLETED
    late = compare(scenario, move(page, **exact, tau_max_slots=7))[0]
    assert late == (COMPLETED if scenario.readings.drop_rule == "wait" else DROPPED)


def test_equations_with_their_numbers_give_what_stands_beside_them(visit):
    """The text is calculated as it stands; what is rounded up there may jump by the rounding of its numbers."""
    page, rng = visit(playground.task_sliders(SCENARIOS)), np.random.default_rng(4)
    units = {" Mbit/s": "*1e6", " Mbit": "*1e6", " MHz": "*1e6", " GHz": "*1e9", " kJ": "*1e3"} | {
        f" {unit}": "" for unit in ("J", "W", "s")
    }
    signs = {
        "10⁻²⁶": "1e-26",
        "³": "**3",
        "²": "**2",
        "⌈": "ceil(",
        "⌉": ")",
        "[": "max(0, ",
        "]⁺": ")",
        "log₂": "log2",
    }
    signs |= {"−": "-", "·": "*"}
    seen = set()
    for scenario in SCENARIOS:
        page.locator("select").select_option(called(scenario.name))
        for values in draws(page, rng, 6):
            move(page, **values)
            for key, shown, text in page.evaluate("""() => [...document.querySelectorAll(".pg-formula")].map((node) =>
                [node.parentNode.querySelector("[data-key]").dataset, node.textContent]).map(([{ key, value }, text]) =>
                [key, Number(value), text])"""):
                if not text or "queue" in text:
                    continue
                sum_of = re.sub(r"(\d),(\d{3})", r"\1\2", text).replace("\u00a0", " ").removeprefix("= ")
                for unit, factor in units.items():
                    sum_of = re.sub(rf"([\d.]+(?:e-\d+)?){unit}\b", rf"(\1{factor})", sum_of)
                for sign, code in signs.items():
                    sum_of = sum_of.replace(sign, code)
                given = eval(sum_of, {"ceil": np.ceil, "log2": np.log2, "max": max, "min": min})
                assert given == pytest.approx(shown, rel=0.02, abs=1.0 if "ceil" in sum_of else 0.06), (key, text)
                seen.add(key)
    assert len(seen) == 19, sorted(seen)


def bound_by_sorting(p, frequency, probability):
    """The largest share of tasks, the lightest first, that fits into the cycles until the last deadline."""
    works = np.linspace(0.8, 1.2, 40_001) * p["work"]
    cycles = frequency * 0.1 * (p["slots"] + p["tau_max_slots"]) / (probability * p["slots"])
    return np.searchsorted(np.cumsum(works) / works.size, cycles) / works.size


def test_capacity_is_what_sorting_and_averaging_give(visit):
    page, rng = visit(playground.capacity_sliders(SCENARIOS)), np.random.default_rng(2)
    share = 0.7925 / 0.98
    for scenario in SCENARIOS:
        page.locator("select").select_option(called(scenario.name))
        compare_capacity(move(page), share)
    for values in draws(page, rng, 9):
        compare_capacity(move(page, **values), share)


def compare_capacity(found, share):
    p = {name: float(value) for name, value in found.items()}
    clock, arrivals = p["device_frequency"], p["arrival_probability"]
    works = np.linspace(0.8, 1.2, 40_001) * p["work"]
    slots = model.computing_delay(works, 1.0, clock, 0.1).mean()
    expected = {
        "coming": works.mean() * arrivals / 0.1,
        "able": clock,
        "all_local": works.mean() * arrivals / (clock * 0.1),
        "cycles": min(clock * 0.1 / (works.mean() * arrivals), 1.0),
        "whole": min(1.0 / (arrivals * slots), 1.0),
        "bound": bound_by_sorting(p, clock, arrivals),
        "busy": 0.7925 * clock * 0.1 / (works.mean() * arrivals),
    }
    assert {name: p[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert bound_by_sorting(p, p["clock"], arrivals) == pytest.approx(share, abs=1e-4)
    assert bound_by_sorting(p, clock, p["probability"]) == pytest.approx(share, abs=1e-4)


def test_capacity_bound_is_that_of_limits(visit):
    clock = (4e9, 4e9)
    busy = load_scenario("balanced", slots=1000, arrival_probability=1.0, device_frequency=clock, load="local_share")
    most = print_limits.most_load(busy, draw_trace(busy), 0.0)
    found = move(visit(playground.capacity_sliders([busy])))
    assert float(found["bound"]) < 0.9  # or both would be 1
    extra = longest_service_slots(busy) / (busy.slots + busy.tau_max_slots)
    assert most == pytest.approx(float(found["bound"]), abs=0.01 + extra)


def reconstructed(tasks, has_task, t, devices=30, servers=8):
    """Totals and queues at the instant t, from the records of an episode."""
    slot, device = np.nonzero(has_task)
    task = tasks[has_task]
    sent = slot + task["transmission_wait_slots"]
    arrived = sent + task["transmission_slots"]
    begun = arrived + task["wait_slots"]
    now, home = t + 1e-6, task["place"] == 0
    there, over = (slot <= t) & (task["end_slot"] + 1 > now), (slot <= t) & (task["end_slot"] + 1 <= now)
    kinds = {
        "queued": there & (sent > now),
        "sending": there & (sent <= now) & (arrived > now),
        "waiting": there & (arrived <= now) & (begun > now),
        "computing": there & (begun <= now),
    }
    coming = kinds["queued"] | kinds["sending"]
    per_device = {name: np.bincount(device[mask & (home | coming)], minlength=devices) for name, mask in kinds.items()}
    away = {name: kinds[name] & ~home for name in ("waiting", "computing")} | {"coming": coming}
    per_server = {name: np.bincount(task["place"][mask], minlength=servers + 1)[1:] for name, mask in away.items()}
    done, lost = over & (task["fate"] == COMPLETED), over & (task["fate"] == DROPPED)
    energy = task["waiting_energy"] + task["transmission_energy"] + task["computing_energy"]
    new = np.bincount(task["place"][slot == t], minlength=servers + 1)
    totals = {
        "stay": new[0],
        "leave": new[1:].sum(),
        "crowd": new[1:].max(),
        "idle": np.sum((per_server["computing"] == 0) & (per_server["waiting"] == 0)),
        "held": np.sum((per_server["computing"] == 0) & (per_server["waiting"] > 0)),
        "present": there.sum(),
        "waiting": (kinds["waiting"] | kinds["queued"]).sum(),
        "done": done.sum(),
        "dropped": lost.sum(),
        "energy": energy[over].sum(),
        "delay": 0.1 * task["delay_slots"][done].mean() if done.any() else np.nan,
    }
    return totals, per_device, per_server


def read(page, slot):
    """Move the replay to a slot and read everything it counts, by policy."""
    page.locator("input[data-name=slot]").fill(str(slot))
    return page.evaluate("""() => Object.fromEntries([...document.querySelectorAll(".pg-panel")].map((panel) => {
        const name = panel.dataset.policy;
        const cells = [...document.querySelectorAll(`td[data-policy="${name}"]`)];
        const queues = (kind) => [...panel.querySelectorAll(kind)].map((node) => ({ ...node.dataset }));
        return [name, { totals: Object.fromEntries(cells.map((cell) => [cell.dataset.key, cell.dataset.value])),
                        devices: queues(".pg-spot"), servers: queues(".pg-server") }];
    }))""")


def test_replay_counts_what_the_event_simulation_tells(visit, episode):
    scenario, trace, runs, fragment = episode
    page = visit(fragment)
    played = {
        name: reference.simulate(scenario, trace, np.maximum(run.tasks["place"], 0)) for name, run in runs.items()
    }
    for slot in (0, 5, 17, 38, 64, 99, 101, 106):
        found = read(page, slot)
        for name, tasks in played.items():
            totals, devices, servers = reconstructed(tasks[0], trace.has_task[0], slot)
            shown = {key: float(value) for key, value in found[name]["totals"].items()}
            assert shown == pytest.approx(totals, rel=1e-6, nan_ok=True), (name, slot)
            for shown, queues in ((found[name]["devices"], devices), (found[name]["servers"], servers)):
                for key, counts in queues.items():
                    assert [int(entry[key]) for entry in shown] == counts.tolist(), (name, slot, key)


def test_replay_ends_with_the_metrics_of_the_simulator(visit, episode):
    _, trace, runs, fragment = episode
    page = visit(fragment)
    last = page.locator("input[data-name=slot]").get_attribute("max")
    for name, found in read(page, last).items():
        totals = {key: float(value) for key, value in found["totals"].items()}
        metrics = {key: value[0] for key, value in runs[name].metrics().items()}
        tasks = trace.has_task.sum()
        assert totals["done"] + totals["dropped"] == tasks and totals["present"] == 0
        assert totals["dropped"] / tasks == pytest.approx(metrics["drop_rate"])
        assert totals["energy"] / tasks == pytest.approx(metrics["energy"], rel=1e-6)
        assert totals["delay"] == pytest.approx(metrics["delay"], rel=1e-6)


def test_a_device_tells_its_tasks_in_words(visit, episode):
    _, trace, runs, fragment = episode
    page, slot, words = visit(fragment), 60, set()
    page.locator("input[data-name=slot]").fill(str(slot))
    for device in range(0, 30, 5):
        page.get_by_label("Follow device").select_option(str(device))
        latest = np.flatnonzero(trace.has_task[0, : slot + 1, device])[-9:][::-1]
        for story, t in zip(page.locator(".pg-stories > li").all_inner_texts(), latest, strict=True):
            head, *told = [line for line in story.splitlines() if line and line not in runs]
            assert head.startswith(f"Slot {t}: {trace.size[0, t, device] / 1e6:.3g} Mbit")
            for text, run in zip(told, runs.values(), strict=True):
                task = run.tasks[0, t, device]
                over = task["end_slot"] + 1 <= slot + 1e-6
                assert text.startswith({COMPLETED: "done", DROPPED: "dropped"}[int(task["fate"])]) == over
                assert f"server {task['place']}" in text or task["place"] == 0 or "channel" in text or "air" in text
                words.add(text.split()[0])
    assert {"done", "dropped", "waits", "computed", "on"} <= words


def test_keyboard_plays_steps_and_slides(visit, episode):
    page = visit(episode[3])
    slot = page.locator("input[data-name=slot]")
    quiet = page.locator("[aria-live=polite]")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Play"
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('[data-name=slot]').value >= 2")
    assert page.locator(":focus").inner_text() == "Pause" and quiet.inner_text() == ""  # no flood while it plays
    page.keyboard.press("Space")
    at = int(slot.input_value())
    for expected, presses in ((at, ["Tab"]), (at - 1, ["Space"]), (at + 1, ["Tab", "Space", "Space"])):
        for press in presses:
            page.keyboard.press(press)
        assert int(slot.input_value()) == expected
    for press in ("Tab", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(press)
    assert int(slot.input_value()) == at + 2 and slot.get_attribute("aria-valuetext") == f"slot {at + 2}"
    page.wait_for_function(f"document.querySelector('[aria-live=polite]').textContent.startsWith('Slot {at + 2}.')")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_replay_stops_at_its_end_and_starts_again(visit, episode):
    page = visit(episode[3])
    slot, last = page.locator("input[data-name=slot]"), int(page.locator("input[data-name=slot]").get_attribute("max"))
    page.get_by_label("Slots a second").select_option("8")
    slot.fill(str(last - 2))
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for(state="detached")
    assert int(slot.input_value()) == last
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"document.querySelector('[data-name=slot]').value < {last}")


def test_a_click_on_a_column_picks_the_device(visit, episode):
    page = visit(episode[3], viewport={"width": 1280, "height": 900})
    page.locator('.pg-panel [data-device="21"]').first.click()
    assert page.get_by_label("Follow device").input_value() == "21"


def test_a_narrow_screen_shows_one_policy_at_a_time(visit, episode):
    page = visit(episode[3], viewport={"width": 390, "height": 844})
    shown = page.locator(".pg-panel:visible figcaption")
    assert shown.all_inner_texts() == ["Greedy"]
    page.get_by_role("radio", name="Random").check()
    assert shown.all_inner_texts() == ["Random"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 1280, "height": 900})
    assert shown.all_inner_texts() == list(RULES) and page.locator("input[type=radio]:visible").count() == 0


@pytest.fixture(scope="module")
def library(episode):
    """Two episodes of the shared-load network and one of Table III's, to choose from; and what the simulator says."""
    recorded, runs = {}, {}
    for name, scenario, seeds in (("shared load", SCENARIOS[0], (3, 4)), ("Table III", SCENARIOS[2], (3,))):
        for seed in seeds:
            trace = draw_trace(scenario, 1, seed=seed)
            rules = RULES if name == "shared load" else {"Random": "random", "Least loaded": "least-loaded"}
            policies = {label: make_policy(rule, scenario) for label, rule in rules.items()}
            recorded[name, str(seed)] = policies, scenario, trace
            for label, policy in policies.items():
                runs[name, str(seed), label] = evaluate(policy, scenario, trace, record=True)
    moments = {"A herd": "at=40&policies=random,greedy"}
    return runs, playground.replays(recorded, ("Greedy", "Threshold"), moments, start=5)


def chosen(page):
    return [page.locator(f"select[data-name={name}]").input_value() for name in ("network", "seed", "left", "right")]


def test_the_reader_chooses_network_seed_and_policies(visit, library):
    runs, fragment = library
    page = visit(fragment, viewport={"width": 1280, "height": 900})
    slot = page.locator("input[data-name=slot]")
    assert chosen(page) == ["shared load", "3", "Greedy", "Threshold"] and slot.input_value() == "5"
    page.get_by_label("Right", exact=True).select_option("Random")
    page.get_by_label("Seed", exact=True).select_option("4")
    assert slot.input_value() == "5"  # a choice keeps the slot
    page.get_by_label("Network", exact=True).select_option("Table III")
    network, seed, left, right = chosen(page)
    assert (network, seed, left, right) == ("Table III", "3", "Random", "Random")  # Greedy is not recorded there
    page.get_by_label("Left", exact=True).select_option("Least loaded")
    last = slot.get_attribute("max")
    for name, found in read(page, last).items():
        totals = {key: float(value) for key, value in found["totals"].items()}
        run = runs["Table III", "3", name]
        tasks = run.tasks[run.trace.has_task]
        assert totals["dropped"] == np.sum(tasks["fate"] == DROPPED) > 0
        parts = [tasks[f"{part}_energy"].sum() for part in ("waiting", "transmission", "computing")]
        assert totals["energy"] == pytest.approx(sum(parts), rel=1e-6)


def test_an_address_leads_to_its_slot_and_follows_the_reader(visit, library):
    page = visit(library[1], viewport={"width": 1280, "height": 900})
    slot = page.locator("input[data-name=slot]")
    page.get_by_role("link", name="A herd").click()
    page.wait_for_function("document.querySelector('input[data-name=slot]').value === '40'")
    assert chosen(page) == ["shared load", "3", "Random", "Greedy"]
    page.get_by_label("Seed", exact=True).select_option("4")
    slot.fill("45")
    address = page.url
    assert address.endswith("#at=45&network=shared-load&seed=4&policies=random,greedy")
    page.get_by_label("Left", exact=True).select_option("Threshold")
    page.goto(address.replace("at=45", "at=7"))
    assert chosen(page) == ["shared load", "4", "Random", "Greedy"] and slot.input_value() == "7"
    page.goto(address.partition("#")[0] + "?#at=9999&network=nowhere&policies=x,y")
    assert chosen(page) == ["shared load", "3", "Random", "Threshold"]  # the first two that are recorded
    assert slot.input_value() == slot.get_attribute("max")


def test_a_second_link_skips_to_play(visit, library):
    skip = '<div id="pst-skip-link"><a href="#main">Skip</a></div>' + '<a href="#x">another</a>' * 20
    page = visit(skip + library[1])
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(":focus").inner_text() == "Play"
    page.keyboard.press("Space")
    assert page.locator(":focus").inner_text() == "Pause"


def test_herds_by_hand():
    places = np.full((4, 9), -1)
    places[0, :6] = 2  # six of six to server 2
    places[1, :5] = 1  # too few
    places[2] = [1, 1, 1, 1, 1, 1, 2, 2, 3]  # six of nine: two thirds
    places[3] = [0, 0, 3, 3, 1, 1, 2, 2, 0]
    assert playground.herds(places).tolist() == [0, 2]
    assert playground.herds(places, least=5).tolist() == [0, 1, 2]
    assert playground.herds(np.zeros((3, 2), int)).size == 0


def test_the_coin_shows_what_the_simulator_says_of_it(visit):
    """Against the registered rule that throws the same coin, on other throws; the ends need no throw."""
    page = visit(playground.coin(["fitted"]))
    scenario = load_scenario("fitted", **grids.ARMS["printed"] | {"weights": Weights()})
    toppo = paper.printed("reward")["toppo"]
    for share in (0, 78, 100):
        found = {key: float(value) for key, value in move(page, share=share).items()}
        rule = make_policy("mixture-random", scenario, local_probability=share / 100)
        runs = [evaluate(rule, scenario, draw_trace(scenario, 5, seed)).metrics() for seed in range(5)]
        for key in playground.COIN_METRICS:
            expected = np.mean([run[key].mean() for run in runs])
            assert found[key] == pytest.approx(expected, rel=1e-3 if share == 100 else 0.03, abs=0.004), (share, key)
        assert found["reward.off"] == pytest.approx(found["reward"] / toppo - 1)
    page.get_by_role("button", name="Best paid").click()
    assert 0.7 <= float(page.locator("[data-key=share]").get_attribute("data-value")) <= 0.85
    assert page.locator(".pg-verdict").inner_text().endswith("no coin earns more.")


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_reduced_motion_is_respected(visit, episode, motion, moves):
    page = visit(episode[3], reduced_motion=motion)
    lasts = page.locator(".pg-tasks path").first.evaluate("(node) => getComputedStyle(node).transitionDuration")
    assert (float(lasts.rstrip("s")) > 0) == moves


@pytest.fixture(scope="module")
def fragments(episode):
    task, capacity = playground.task_sliders(SCENARIOS), playground.capacity_sliders(SCENARIOS)
    return {"replay": episode[3], "task": task, "capacity": capacity, "coin": playground.coin(["fitted"])}


@pytest.mark.parametrize("width", [390, 1280])
def test_every_select_box_stands_beside_its_label(visit, fragments, library, width):
    for fragment in (library[1], fragments["task"]):
        page = visit(fragment, viewport={"width": width, "height": 900})
        apart = page.evaluate(
            """() => [...document.querySelectorAll(".playground select")].filter((node) => {
                const [own, label] = [node, node.labels[0]].map((part) => part.getBoundingClientRect());
                return Math.abs(own.top + own.bottom - label.top - label.bottom) > 4 || label.right > own.left;
            }).map((node) => node.labels[0].textContent)"""
        )
        assert apart == []


@pytest.mark.parametrize(
    ("kind", "width"), [("replay", 1280), ("replay", 390), ("task", 390), ("capacity", 390), ("coin", 390)]
)
def test_every_reader_can_use_it(visit, fragments, kind, width):
    page = visit(fragments[kind], viewport={"width": width, "height": 900})
    found = Axe().run(page, options={"preload": False}).response["violations"]  # a file may not fetch its stylesheet
    assert [f"{v['id']}: {v['help']}" for v in found if v["impact"] in ("serious", "critical")] == []
    small = page.evaluate(
        """() => [...document.querySelectorAll(".playground :is(button, select, input)")].filter((node) => {
            const { width, height } = node.getBoundingClientRect();
            return width && Math.min(width, height) < 24;
        }).map((node) => node.outerHTML)"""
    )
    assert small == []


@pytest.mark.parametrize("kind", ["replay", "task", "capacity", "coin"])
def test_without_scripts_a_sentence_says_where_to_look(visit, fragments, kind):
    page = visit(fragments[kind], java_script_enabled=False)
    assert page.locator(".playground-fallback").is_visible()
    assert "JavaScript" in page.locator(".playground-fallback").inner_text()
    assert visit(fragments[kind]).locator(".playground-fallback").count() == 0


def test_links_lead_to_anchors_of_the_book(visit, fragments):
    links = {
        href
        for kind in ("task", "capacity", "coin")
        for href in re.findall(r'href="([^"]+html[^"]*)"', fragments[kind])
    }
    page = visit(fragments["task"])
    links |= set(page.locator(".playground a").evaluate_all("(all) => all.map((a) => a.getAttribute('href'))"))
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        [source] = [p for p in (ROOT / "notebooks" / path).resolve().parent.glob(f"{Path(path).stem}.*") if p.is_file()]
        assert not anchor or f"({anchor})=" in source.read_text(encoding="utf-8"), link


def test_fragments_are_small_and_safe(fragments):
    assert sum(map(len, fragments.values())) < 250_000
    name = "</script><b>"
    scenario = load_scenario("balanced", slots=5)
    fragment = playground.replay({name: make_policy("random", scenario)}, scenario, draw_trace(scenario))
    assert name not in fragment and fragment.count("</script>") == 4


def test_what_cannot_be_shown_is_refused():
    balanced, fitted, _ = SCENARIOS
    policies = {"Random": make_policy("random", balanced)}
    with pytest.raises(InvalidInput, match="episodes"):
        playground.replay(policies, balanced, draw_trace(balanced, 2))
    with pytest.raises(InvalidInput, match="edge_wait_from"):
        playground.replay({"Random": make_policy("random", fitted)}, fitted, draw_trace(fitted))
    shannon = {"transmission_rate": None, "bandwidth": 2e6, "channel_gain": (0.5, 1.0), "noise_power": 0.01}
    with pytest.raises(InvalidInput, match="transmission_rate"):
        playground.task_sliders([balanced.replace(**shannon)])
