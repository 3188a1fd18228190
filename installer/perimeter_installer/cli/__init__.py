"""Command line of perimeter-install."""
