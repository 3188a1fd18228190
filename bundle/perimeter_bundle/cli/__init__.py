"""perimeter-bundle: one file per command; each builds a request, calls one function, prints."""
