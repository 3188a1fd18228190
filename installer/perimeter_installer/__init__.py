"""The closed side of perimeter: verifies a bundle and stands the platform up from it."""
