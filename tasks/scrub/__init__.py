"""Scrub: find personal data in conversations and replace it, before anything is kept."""

from tasks.scrub.stage import Scrubbed, ScrubReport, ScrubSettings, scrub, scrub_task

__all__ = ["ScrubReport", "ScrubSettings", "Scrubbed", "scrub", "scrub_task"]
