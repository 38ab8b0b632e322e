"""What an experiment will take, by arithmetic alone: nothing is downloaded, and torch is not imported.

The plan advises: what it does not know it calls unknown, and only what certainly cannot work is refused.

`shape` counts parameters, `lengths` questions and tokens; `algorithms` says in the words of `facts` what each algorithm
does, and `updates` and `workload` what the whole experiment trains, draws and learns from. From these `batches` reckons
batches, `memory` the peak of one training step, `phases` the memory of each phase, `storage` disk, and `rates` time.
`fit` says what does not fit into a machine and the nearest change that does, `plan` puts everything together, and
`measured` puts what a run took beside its plan.
"""
