"""Decoders of JPEG, one core: whole pictures, and the crops of RandomResizedCrop."""
