"""Executable reproduction of AIECOF: computation offloading for AIGC services at the edge."""

__version__ = "0.1.0"
