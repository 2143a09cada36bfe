"""What all kernels need: compilation, the cache of machine code on disk, threads."""
