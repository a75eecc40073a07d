"""Worker processes over our own transport: torch's worker loop and bookkeeping, with other queues between them.

Per worker there are two pipes and an arena of shared memory. Index batches go one way; the other way comes one small
message a batch, however many tensors it has, and the tensors themselves lie in the arena.
"""
