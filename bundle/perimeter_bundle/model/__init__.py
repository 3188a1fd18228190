"""Values shared by both sides; standard library only."""
