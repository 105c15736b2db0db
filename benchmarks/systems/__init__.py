"""Would an accelerator pay? Workloads on every system, each placement judged by the simulator."""
