"""Bundle to registry replicas."""
