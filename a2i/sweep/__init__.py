"""Sweeps: many trainings by one command, kept in a study that can be gone on with, and a summary of them."""
