"""Zenith's benchmarks: each folder answers one question and prints its own numbers."""
