"""What an experiment will take, by arithmetic alone: nothing is downloaded, and torch is not imported.

`shape` counts parameters, `batches` and `workload` what is drawn and learned, `memory` the peak of one training step,
`phases` the memory of each phase of an experiment, `storage` disk, `rates` and `hours` time, `fit` says what does not
fit and the nearest change that does, and `measured` puts what a run took beside its plan.
"""
