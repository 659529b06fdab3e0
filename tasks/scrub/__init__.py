"""Scrub: find personal data in conversations and replace it, before anything is kept."""

from tasks.scrub.detector import BuiltDetector, DetectorSettings, detector_task
from tasks.scrub.stage import Job, Scrubbed, ScrubReport, ScrubSettings, scrub, scrub_task

__all__ = [
    "BuiltDetector",
    "DetectorSettings",
    "Job",
    "ScrubReport",
    "ScrubSettings",
    "Scrubbed",
    "detector_task",
    "scrub",
    "scrub_task",
]
