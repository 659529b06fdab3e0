"""The home as a whole: opened, upgraded, moved, backed up and restored."""
