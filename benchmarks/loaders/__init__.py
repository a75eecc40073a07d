"""How fast do loaders deliver batches on this machine? Zenith and its peers, side by side in one run."""
