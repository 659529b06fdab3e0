"""Stages: each a pure function from typed input to typed output, and the task that wraps it."""
