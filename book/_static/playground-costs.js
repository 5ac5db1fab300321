// One task on its device and on a server: Eqs. (2) to (24) once more, so that sliders can move them. Times are in slots
// from the decision, so the slot of the decision is 0. `aiecof.model` and `aiecof.kernels` are the originals.
"use strict";

playground.costs = (() => {
  const ROUND_OFF = 1e-9;

  // The equations, one function each, as in aiecof.model.
  const inSlots = (duration, rounded) => (rounded ? Math.ceil(duration - ROUND_OFF) : duration);
  const waitingDelay = (previousEnd, slot) => Math.max(previousEnd - slot + 1, 0); // (2), and in (18)
  const computingDelay = (size, density, frequency, step, rounded) =>
    inSlots(size / ((frequency * step) / density), rounded); // (3), (18)
  const completionSlot = (wait, service, tau, dropOnWait) => {
    const [finish, deadline] = [wait + service - 1, tau - 1];
    const served = dropOnWait && wait < tau - ROUND_OFF;
    return Math.min(finish, Math.max(deadline, served ? finish : 0)); // (4)
  };
  const waitingEnergy = (power, wait, step) => power * wait * step; // (7), (20)
  const computingPower = (c, frequency) => c * frequency ** 3; // (8), (21)
  const computingEnergy = (c, frequency, size, density) => c * frequency ** 2 * size * density; // (9), (10), (22)
  const deviceLoad = (size, density, frequency, elapsed, cap) =>
    Math.min(cap, (density * size) / (frequency * elapsed)); // (12)
  const transmissionRate = (bandwidth, gain, power, noise) => bandwidth * Math.log2(1 + (gain * power) / noise); // (13)
  const transmissionDelay = (size, rate, step, rounded) => inSlots(size / (rate * step), rounded); // (14)
  const transmissionEnergy = (power, size, rate) => (power * size) / rate; // (16)

  const part = (value, left) => Math.min(value, Math.max(left, 0));

  /** What is booked of an energy: all of it, or what the reading says of a dropped task (R21). */
  const booked = (reading, dropped, whole, spent) =>
    !dropped || reading === "full" ? whole : reading === "spent" ? spent : 0;

  /** Everything about a task that stays: `p` has its values in SI units, `r` the readings. */
  function onDevice(p, r) {
    const wait = waitingDelay(p.device_backlog - 1, 0);
    const service = computingDelay(
      p.size,
      p.density,
      p.device_frequency,
      p.slot_duration,
      r.device_rounding === "ceil",
    );
    const end = completionSlot(wait, service, p.tau_max_slots, r.drop_rule === "wait");
    const dropped = wait + service - 1 - end > ROUND_OFF;
    const left = dropped ? end + 1 : Infinity;
    const waited = part(wait, left);
    const computed = part(service, left - wait);
    const exact = computingDelay(p.size, p.density, p.device_frequency, p.slot_duration, false);
    const energies = {
      waiting: waitingEnergy(p.waiting_power, wait, p.slot_duration),
      computing: computingEnergy(p.capacitance, p.device_frequency, p.size, p.density),
    };
    const spent =
      waitingEnergy(p.waiting_power, waited, p.slot_duration) + energies.computing * Math.min(computed / exact, 1);
    const whole = energies.waiting + energies.computing; // (6)
    const firstSlot =
      r.load === "literal"
        ? deviceLoad(p.size, p.density, p.device_frequency, 1, p.load_cap)
        : Math.min(p.load_cap, computed, 1);
    return {
      stages: [
        ["wait", wait, waited],
        ["computing", service, computed],
      ],
      wait,
      service,
      end,
      dropped,
      delay: waited + computed,
      energy_waiting: energies.waiting,
      power: computingPower(p.capacitance, p.device_frequency),
      energy_computing: energies.computing,
      energy: whole,
      booked: booked(r.dropped_energy, dropped, whole, spent),
      load: computed > ROUND_OFF ? firstSlot : 0,
    };
  }

  /** The same for a task that leaves. */
  function onServer(p, r) {
    const rate = transmissionRate(p.bandwidth, p.gain, p.transmission_power, p.noise);
    const queue = r.channel_queue === "none" ? 0 : waitingDelay(p.channel_backlog - 1, 0);
    const sending = transmissionDelay(p.size, rate, p.slot_duration, r.transmission_rounding === "ceil");
    const arrival = queue + sending;
    const inQueue = waitingDelay(p.server_backlog - 1, arrival); // (18)
    const service = computingDelay(
      p.size,
      p.density,
      p.server_frequency,
      p.slot_duration,
      r.server_rounding === "ceil",
    );
    const start = arrival + inQueue;
    const deadline = p.tau_max_slots - 1;
    const lost = arrival - 1 >= deadline - ROUND_OFF;
    const end = lost ? deadline : completionSlot(start, service, p.tau_max_slots, r.drop_rule === "wait");
    const dropped = lost || start + service - 1 - end > ROUND_OFF;
    const left = dropped ? end + 1 : Infinity;
    const [queued, sent] = [part(queue, left), part(sending, left - queue)];
    const computed = part(service, left - start);
    const fromDecision = r.edge_wait_from === "decision" && !dropped;
    const wait = fromDecision ? start : inQueue;
    const waited = fromDecision ? start : part(inQueue, left - queue - sending);
    const energies = {
      radio: transmissionEnergy(p.transmission_power, p.size, rate),
      waiting: waitingEnergy(p.waiting_power, wait, p.slot_duration),
      computing: computingEnergy(p.capacitance, p.server_frequency, p.size, p.density),
    };
    const exact = computingDelay(p.size, p.density, p.server_frequency, p.slot_duration, false);
    const onAir = Math.min(sent / transmissionDelay(p.size, rate, p.slot_duration, false), 1);
    const spent =
      energies.radio * onAir +
      waitingEnergy(p.waiting_power, waited, p.slot_duration) +
      energies.computing * Math.min(computed / exact, 1);
    const edge = energies.waiting + energies.computing; // (23)
    const whole = energies.radio + edge;
    return {
      stages: [
        ["queue", queue, queued],
        ["sending", sending, sent],
        ["wait", inQueue, part(inQueue, left - arrival)],
        ["computing", service, computed],
      ],
      rate,
      queue,
      sending,
      wait,
      service,
      end,
      dropped,
      delay: queued + sent + waited + computed,
      energy_radio: energies.radio,
      energy_waiting: energies.waiting,
      power: computingPower(p.capacitance, p.server_frequency),
      energy_computing: energies.computing,
      energy_edge: edge,
      energy: whole,
      booked: booked(r.dropped_energy, dropped, whole, spent),
    };
  }

  return { onDevice, onServer, ROUND_OFF };
})();
