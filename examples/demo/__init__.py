"""`python -m examples.demo`: two models trained on real files, beside torch's DataLoader, and a kill -9 survived."""
