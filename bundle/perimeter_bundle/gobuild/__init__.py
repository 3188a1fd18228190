"""Images compiled on the connected machine: a Go module at a version → the same image each time.

``toolchain`` finds Go, ``compiling`` runs it, ``packing`` makes the image, ``papers`` what explains
it, ``kept`` keeps results; ``made`` puts them together.
"""
