"""One file per way to read the data. A new contender is one file with a list `CONTENDERS`; nothing else changes."""
