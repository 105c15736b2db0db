"""`wherry bench gpu`: a CUDA device's limits, and which share of them Wherry's answers take.

First the limits are measured (`limits.py`): what the card reads and copies, what the link and the
page cache give. Then every question (`questions.py`) is asked of Wherry, of the same lines of array
code on the same card (`arrays.py`) and of engines on the host's processor (`engines.py`), over rows
that a hash makes of their numbers (`lineitem.py`). Answers are compared with numpy's, `judge.py`
holds the goals, and `run.py` keeps all of it within a time.
"""
