"""The workloads by name, in the order of the demo; one file each."""

from wherry.benchmarks.workload import Workload
from wherry.benchmarks.workloads import orders, q1, q6

WORKLOADS: dict[str, Workload] = {w.name: w for w in (q6.WORKLOAD, q1.WORKLOAD, orders.WORKLOAD)}
