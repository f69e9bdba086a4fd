"""`python -m taxlt_mergekit`, for `accelerate launch -m` and `torchrun -m`."""

from taxlt_mergekit.cli import main

main(prog_name="taxlt")
