"""One small file per way to turn rewards into what answers and tokens are worth.

Pure functions on lists. Axes: N prompts of a rollout, G answers to a prompt, L tokens of an answer.
"""
