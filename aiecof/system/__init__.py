"""The network: Section III of the paper, compiled, and once more as a plain event simulation."""
