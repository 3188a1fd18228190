"""Volumes: a bundle cut into tar files of a given size, each checkable alone."""
