"""Kubernetes objects from source trees, with the programs that the bundle carries."""
