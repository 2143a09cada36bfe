"""What kernels stand on: how to compile, where machine code is kept, how many threads."""
