"""The catalog: component and release files people write, as values."""
