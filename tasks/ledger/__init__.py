"""The ledger: what was watched, which retrains were asked for, and what became of each.

A table of SQLite (default) or Postgres, so that it holds whatever happens to events.
"""
