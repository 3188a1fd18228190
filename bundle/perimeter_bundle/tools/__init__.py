"""Programs that are run on the connected machine."""
