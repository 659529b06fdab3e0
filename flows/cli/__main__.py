"""`python -m flows.cli` is `evergreen`."""

from flows.cli import main

main()
