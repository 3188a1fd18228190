"""Charts inside charts: what one asks for, where it is had, and the archive that holds it all."""
