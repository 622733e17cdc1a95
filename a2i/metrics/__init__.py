"""Metrics of captions and pictures: pure functions, and thin classes that hold a model or a cache."""
