"""Streams: programs that measure one side of one case and print its figures."""

CASES = []
