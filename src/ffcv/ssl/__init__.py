"""Self-supervised training on top of the loader: methods, heads, probes, one visible training loop.

Nothing here is imported by `import ffcv`; `pip install 'ffcv-ssl[train]'` brings what this package needs.
"""
