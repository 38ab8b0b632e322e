"""`python -m rlreason`, and so `torchrun -m rlreason`, is the command `rlreason`."""

from rlreason.cli import main

main()
