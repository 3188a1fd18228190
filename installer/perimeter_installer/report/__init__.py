"""Reports as terminal text, JSON, JUnit and HTML."""
