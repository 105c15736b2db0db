"""Passes as CUDA C++: text that NVRTC compiles, and what is launched of it."""
