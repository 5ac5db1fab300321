"""A picture of the queues of one network."""

import numpy as np

from aiecof.system.model import waiting_delay
from aiecof.system.simulator import Simulator


def draw_queues(simulator: Simulator, device: int) -> np.ndarray:
    """For how many slots the devices, channels and servers of replica 0 are still busy, as an (H, W, 3) uint8 picture.

    The device that decides next stands on red; the bars of devices with a task in this slot are dark.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scenario, slot, tau = simulator.scenario, simulator.slot, simulator.scenario.tau_max_slots
    ends = simulator.device_end, simulator.server_end, simulator.channel_end
    devices, servers, channels = (waiting_delay(end[0], slot) for end in ends)
    figure = Figure(figsize=(6.4, 5.6), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1)
    figure.suptitle(f"after slot {slot}" if simulator.done else f"slot {slot}, device {device} decides")
    colours = "dimgray"
    if not simulator.done:
        top.axvspan(device - 0.5, device + 0.5, color="tab:red", alpha=0.3)
        colours = np.where(simulator.has_task[0], "dimgray", "silver").tolist()
    top.bar(range(scenario.devices), devices, color=colours)
    top.set(ylim=(0, max(tau, devices.max())), xlim=(-0.5, scenario.devices - 0.5), ylabel="device busy [slots]")
    middle.imshow(channels.T, aspect="auto", cmap="Blues", vmin=0, vmax=tau)
    middle.set(xlabel="device", ylabel="channels busy", yticks=[])
    bottom.bar(range(1, scenario.servers + 1), servers, color="tab:orange")
    bottom.set(ylim=(0, max(tau, servers.max())), xlabel="server", ylabel="server busy [slots]")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
