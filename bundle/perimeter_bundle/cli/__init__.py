"""Command line of perimeter-bundle."""
