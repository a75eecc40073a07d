"""Programs that show Zenith at work."""
