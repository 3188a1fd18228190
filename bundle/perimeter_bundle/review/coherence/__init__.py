"""Whether what a release puts together belongs together; docs/coherence.md explains each rule."""
