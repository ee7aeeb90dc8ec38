"""One small file per way to turn rewards into advantages."""
