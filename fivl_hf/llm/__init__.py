"""Language models behind OpenAI-compatible servers: asking, answer cache, budget, Batch API."""
