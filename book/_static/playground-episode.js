// A recorded episode, and what is true of it in the view of a slot. The view of slot t is a picture of the instant at
// which t begins and all decisions of t are made: everything that waits, is sent or is computed at that instant.
"use strict";

playground.episode = ({ tasks, clocks, step, policies }) => {
  const EPS = 5e-6; // slots: the recorded times are rounded to a millionth

  /** Whole numbers below 36 come as one letter each. */
  const unpacked = (column) => (typeof column === "string" ? [...column].map((digit) => parseInt(digit, 36)) : column);

  /** The instants of a task's stages. A dropped one has only those it reached. */
  function timed(packed) {
    const run = Object.fromEntries(Object.entries(packed).map(([name, column]) => [name, unpacked(column)]));
    const cumulate = (from, by) => from.map((value, i) => value + by[i]);
    const sent = cumulate(tasks.slot, run.channel_wait);
    const arrived = cumulate(sent, run.sending);
    const begun = cumulate(arrived, run.wait);
    return { ...run, sent, arrived, begun, ended: cumulate(begun, run.computing) };
  }

  const runs = Object.fromEntries(Object.entries(policies).map(([name, run]) => [name, timed(run)]));
  const last = Math.ceil(Math.max(...Object.values(runs).flatMap((run) => run.ended)) - EPS);

  /** Slots that no task outlives. */
  const longest =
    Math.ceil(Math.max(...Object.values(runs).flatMap((run) => run.ended.map((end, i) => end - tasks.slot[i])))) + 1;

  /** Where a task is in the view of slot t. */
  function stage(run, i, t) {
    const past = (instant) => instant <= t + EPS;
    if (tasks.slot[i] > t) return "to come";
    if (past(run.ended[i])) return run.dropped[i] ? "dropped" : "done";
    if (!past(run.sent[i])) return "queued";
    if (!past(run.arrived[i])) return "sending";
    return past(run.begun[i]) ? "computing" : "waiting";
  }

  /** Everything the page says about a policy in slot t. */
  function count(run, t) {
    const place = (kinds) => Object.fromEntries(kinds.map((kind) => [kind, 0]));
    const found = {
      device: clocks.device.map(() => place(["computing", "waiting", "sending", "queued"])),
      server: clocks.server.map(() => place(["computing", "waiting", "coming"])),
      sentNow: clocks.server.map(() => 0),
      ...place(["stay", "leave", "present", "waiting", "done", "dropped", "energy", "delay"]),
    };
    for (let i = 0; i < tasks.slot.length && tasks.slot[i] <= t; i++) {
      const [where, n, m] = [stage(run, i, t), run.place[i], tasks.device[i]];
      if (tasks.slot[i] === t) {
        found[n ? "leave" : "stay"] += 1;
        if (n) found.sentNow[n - 1] += 1;
      }
      if (where === "done" || where === "dropped") {
        found[where] += 1;
        found.energy += run.energy[i];
        if (where === "done") found.delay += (run.ended[i] - tasks.slot[i]) * step;
        continue;
      }
      found.present += 1;
      if (where === "waiting" || where === "queued") found.waiting += 1;
      if (where === "sending" || where === "queued") {
        found.device[m][where] += 1;
        found.server[n - 1].coming += 1;
      } else (n ? found.server[n - 1] : found.device[m])[where] += 1;
    }
    found.delay /= found.done;
    found.idle = found.server.filter((server) => !server.computing && !server.waiting).length;
    found.held = found.server.filter((server) => !server.computing && server.waiting).length;
    found.crowd = Math.max(...found.sentNow);
    return found;
  }

  return { runs, last, longest, stage, count, EPS };
};
