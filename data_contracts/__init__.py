"""Types, contracts and snapshots: what data looks like wherever Evergreen touches it."""
