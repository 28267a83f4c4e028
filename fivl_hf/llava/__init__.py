"""LLaVA-1.5: its parts put together for transformers, and checkpoints of its authors' code converted."""
