"""Requests of real services: read from files, measured, and made the tasks of a network."""
