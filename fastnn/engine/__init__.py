"""The plan of a net that kernels run, the layout of its parameters, its predictor, sparse rows."""
