"""Scrub: find personal data in conversations and replace it, before anything is kept."""

from tasks.scrub.stage import Scrubbed, ScrubReport, ScrubSettings, scrub

__all__ = ["ScrubReport", "ScrubSettings", "Scrubbed", "scrub"]
