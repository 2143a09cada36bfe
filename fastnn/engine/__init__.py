"""From layers to what kernels run: the plan of a net, its prediction, sparse samples."""
