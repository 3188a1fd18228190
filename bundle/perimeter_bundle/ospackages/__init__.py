"""Packages of the hosts' own distributions, out of signed repositories."""
