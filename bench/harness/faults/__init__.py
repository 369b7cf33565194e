"""Faults: backends that die, hang, lie or vanish while a constant load goes on, and what clients see of it."""
