"""Answers over HTTP: the answering thread, the OpenAI-compatible routes and the server. Imports no torch."""
