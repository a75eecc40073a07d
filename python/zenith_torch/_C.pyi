"""Empty: importing it registers `torch.ops.zenith`."""
