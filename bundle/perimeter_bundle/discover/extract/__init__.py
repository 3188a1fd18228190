"""Extractors: each knows one family of places where images stand, and names itself."""
