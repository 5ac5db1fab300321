"""A picture of the queues of one network, drawn with NumPy: a slot takes milliseconds."""

import numpy as np

from aiecof.system.model import waiting_delay
from aiecof.system.simulator import Simulator

WIDTH, BAND, GAP = 512, 128, 16
WHITE, DARK, PALE, RED = (255, 255, 255), (105, 105, 105), (192, 192, 192), (246, 190, 190)
BLUE, ORANGE, GREEN = (8, 48, 107), (255, 127, 14), (44, 160, 44)


def _cells(count: int) -> tuple[np.ndarray, np.ndarray]:
    """To which of `count` cells each column of pixels belongs, and whether it is the free one between two cells."""
    cells = np.arange(WIDTH) * count // WIDTH
    return cells, np.append(np.diff(cells) > 0, False) & (WIDTH >= 4 * count)


def _bars(band: np.ndarray, values: np.ndarray, most: float, colours: np.ndarray) -> None:
    """Draw one bar for each value into (BAND, WIDTH, 3), `most` being the full height."""
    cells, between = _cells(len(values))
    height = np.ceil(values[cells] / max(most, values.max(), 1e-9) * BAND) * ~between
    filled = np.arange(BAND, 0, -1)[:, None] <= height
    band[:] = np.where(filled[..., None], colours[cells], band)


def draw_queues(simulator: Simulator, marked: int | None = None, replica: int = 0) -> np.ndarray:
    """For how many slots the devices, channels and servers of a replica are still busy, an (H, W, 3) uint8 picture.

    From the top: the slots played, in green; a bar for each device, dark if it has a task in this slot, the marked one
    on red; the channels, a column a device and a row a server, white if free; a bar for each server. Bars are full at
    tau_max.
    """
    scenario, tau = simulator.scenario, float(simulator.scenario.tau_max_slots)
    slot = simulator.slot // scenario.arrivals_per_slot
    ends = simulator.device_end, simulator.server_end, simulator.channel_end
    devices, servers, channels = (waiting_delay(end[replica], slot) for end in ends)
    picture = np.full((4 * GAP + 3 * BAND, WIDTH, 3), WHITE, np.uint8)
    picture[4 : GAP - 4, : WIDTH * slot // scenario.slots] = GREEN
    top, middle, bottom = (picture[GAP + k * (GAP + BAND) :][:BAND] for k in range(3))
    has_task = np.zeros(scenario.devices, bool) if simulator.done else simulator.has_task[replica]
    cells, _ = _cells(scenario.devices)
    if marked is not None:
        top[:, cells == marked] = RED
    _bars(top, devices, tau, np.where(has_task[:, None], DARK, PALE).astype(np.uint8))
    rows = np.arange(BAND) * scenario.servers // BAND
    busy = np.clip(channels.T / tau, 0.0, 1.0)[..., None]
    shades = (np.array(WHITE) + busy * (np.array(BLUE) - WHITE)).astype(np.uint8)
    middle[:] = shades[rows][:, cells]
    _bars(bottom, servers, tau, np.tile(np.array(ORANGE, np.uint8), (scenario.servers, 1)))
    return picture
