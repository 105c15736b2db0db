"""`wherry bench kernels`: Wherry against other engines on this machine, and against its memory.

A workload's *question* says it once for every engine (`families/`), an engine's file says how it
likes to be asked (`peers/`). Each number of threads has a process of its own, pinned to as many
cores (`child.py`); rounds alternate between all of them (`rounds.py`), answers are compared
(`answers.py`), and the same run measures what the memory allows (`limits.py`).
"""
