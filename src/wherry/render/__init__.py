"""A stage becomes a program: expressions lowered to LLVM, skeletons bound to them."""
