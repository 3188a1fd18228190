"""How both programs speak to people: results on stdout, progress and errors on stderr."""
