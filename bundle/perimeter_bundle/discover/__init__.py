"""Which images a component needs, and why."""
