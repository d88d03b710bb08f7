"""`python -m encryption_guard`: the commands. It belongs to `cli`, and is not in the layer."""

from __future__ import annotations

from encryption_guard.cli import main

main()
