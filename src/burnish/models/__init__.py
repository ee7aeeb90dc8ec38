"""Models: bases, adapters, logprobs of flat streams, reward heads, and artifacts that are probed."""
