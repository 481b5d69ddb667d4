"""The `ffcv` command."""
