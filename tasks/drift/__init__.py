"""Drift: does current traffic come from where the reference came from?"""
