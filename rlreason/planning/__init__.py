"""What an experiment will take, by arithmetic alone: nothing is downloaded, and torch is not imported.

The plan advises: what it does not know it calls unknown, and only what certainly cannot work is refused.

`shape` counts parameters, `lengths` questions and tokens; `updates` and `workload` say what the experiment trains,
draws and learns from, in the words of `facts`, in which each algorithm's row tells what it does. From these `batches`
reckons batches, `memory` the peak of one training step, `phases` the memory of each phase, `storage` disk, and `rates`
time. `fit` says what does not fit into a machine and the nearest change that does, `plan` puts everything together, and
`measured` puts what a run took beside its plan.
"""
