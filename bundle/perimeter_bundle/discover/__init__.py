"""Which images rendered components need, and where each is named."""
