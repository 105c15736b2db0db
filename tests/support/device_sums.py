"""A program that adds to a word of a device's memory: to see what launches read, and when."""

import numpy as np

ADD = """
struct Context { unsigned long long* at; unsigned long long by; };
extern "C" __global__ void __launch_bounds__(32) add(const __grid_constant__ Context context) {
  if (threadIdx.x == 0) *context.at += context.by;
}
"""


def add(device, block, by, shared=0):
    context = np.array([block.address, by], np.uint64).tobytes()
    device.launch(ADD, "add", 1, 32, context, shared=shared)


def word(device, block):
    return int(device.get(block.address, 8).view(np.uint64)[0])


def number(value):
    return np.array([value], np.uint64).view(np.uint8)


def add_from(device, block, address):
    """Add what lies at an address, by the time the launch is carried out."""
    text = ADD.replace("+= context.by", "+= *(unsigned long long*)context.by")
    context = np.array([block.address, address], np.uint64).tobytes()
    device.launch(text, "add", 1, 32, context)
