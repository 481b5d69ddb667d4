"""`python -m ffcv`: the command line, also where a launcher such as torchrun wants a module."""

from ffcv.cli.main import main

main()
