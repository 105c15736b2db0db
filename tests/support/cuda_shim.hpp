// Runs CUDA C++ on a CPU, unchanged: a fiber for each thread of a block, one block after the other.
// Fibers switch at barriers and warp operations only. So races, missing barriers between writes and
// reads of one warp, and the order of memory do not show; what a program computes does.
#pragma once
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static /* blocks run one after the other */

struct Dim {
  unsigned x;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

// Memory on chip that a launch asks for; "extern __shared__" is taken out of programs.
alignas(16) static unsigned long long on_chip[(227 << 10) / 8];

namespace shim {
constexpr unsigned MOST = 1024;
constexpr size_t STACK = 64 << 10;
struct Fiber {
  ucontext_t context;
  bool done;
  long blocks, warps;
};
static Fiber fibers[MOST];
static char* stacks;
static ucontext_t hub;
static unsigned count, current;
static uint64_t slots[MOST];
static void (*body)();

inline void yield() {
  const unsigned me = current;
  swapcontext(&fibers[me].context, &hub);
}
inline void entry() {
  body();
  fibers[current].done = true;
}
inline void wait(unsigned begin, unsigned end, long Fiber::*counter) {
  const long mine = ++(fibers[current].*counter);
  for (bool ready = false; !ready;) {
    ready = true;
    for (unsigned k = begin; k < end; ++k) {
      // A thread that left never reaches a barrier: on a device the others would hang.
      if (fibers[k].done && fibers[k].*counter < mine) abort();
      ready &= fibers[k].*counter >= mine;
    }
    if (!ready) yield();
  }
}
inline unsigned warp() { return current / 32 * 32; }
inline void meet() { wait(warp(), warp() + 32, &Fiber::warps); }
template <class T>
T from(T value, unsigned lane) {
  static_assert(sizeof(T) <= 8);
  slots[current] = 0;
  memcpy(&slots[current], &value, sizeof value);
  meet();
  memcpy(&value, &slots[warp() + lane], sizeof value);
  meet();
  return value;
}
inline void launch(unsigned grid, unsigned block, unsigned shared, void (*kernel)()) {
  if (block > MOST || block % 32 || shared > sizeof on_chip) abort();
  // What a launch did not ask for is not there.
  memset((char*)on_chip + shared, 0x55, sizeof on_chip - shared);
  if (!stacks) stacks = (char*)malloc(MOST * STACK);
  gridDim.x = grid, blockDim.x = block, count = block, body = kernel;
  for (unsigned b = 0; b < grid; ++b) {
    blockIdx.x = b;
    for (unsigned t = 0; t < block; ++t) {
      Fiber& fiber = fibers[t];
      fiber.done = false, fiber.blocks = fiber.warps = 0;
      getcontext(&fiber.context);
      fiber.context.uc_stack = {stacks + t * STACK, 0, STACK};
      fiber.context.uc_link = &hub;
      makecontext(&fiber.context, entry, 0);
    }
    for (bool live = true; live;) {
      live = false;
      for (unsigned t = 0; t < block; ++t) {
        if (fibers[t].done) continue;
        current = threadIdx.x = t;
        swapcontext(&hub, &fibers[t].context);
        live |= !fibers[t].done;
      }
    }
  }
  for (const char* at = (char*)on_chip + shared; at < (char*)(on_chip + sizeof on_chip / 8); ++at)
    if (*at != 0x55) abort();
}
}  // namespace shim

inline void __syncthreads() { shim::wait(0, shim::count, &shim::Fiber::blocks); }
inline bool __syncthreads_or(bool bit) {
  shim::slots[shim::current] = bit;
  __syncthreads();
  bool found = false;
  for (unsigned k = 0; k < shim::count; ++k) found |= shim::slots[k] != 0;
  __syncthreads();
  return found;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline unsigned __ballot_sync(unsigned, bool bit) {
  shim::slots[shim::current] = bit;
  shim::meet();
  unsigned found = 0;
  for (unsigned k = 0; k < 32; ++k) found |= (unsigned)shim::slots[shim::warp() + k] << k;
  shim::meet();
  return found;
}
inline unsigned __reduce_or_sync(unsigned, unsigned value) {
  shim::slots[shim::current] = value;
  shim::meet();
  unsigned found = 0;
  for (unsigned k = 0; k < 32; ++k) found |= (unsigned)shim::slots[shim::warp() + k];
  shim::meet();
  return found;
}
inline bool __any_sync(unsigned mask, bool bit) { return __ballot_sync(mask, bit) != 0; }
inline void __syncwarp() { shim::meet(); }
inline unsigned __reduce_add_sync(unsigned, unsigned value) {
  shim::slots[shim::current] = value;
  shim::meet();
  unsigned found = 0;
  for (unsigned k = 0; k < 32; ++k) found += (unsigned)shim::slots[shim::warp() + k];
  shim::meet();
  return found;
}
template <class T>
T __shfl_sync(unsigned, T value, unsigned lane) {
  return shim::from(value, lane);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  const unsigned lane = shim::current % 32;
  return shim::from(value, lane + by < 32 ? lane + by : lane);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
  const unsigned lane = shim::current % 32;
  return shim::from(value, lane >= by ? lane - by : lane);
}
template <class T>
T atomicOr(T* at, T value) {
  const T old = *at;
  *at |= value;
  return old;
}
template <class T>
T __ldg(const T* at) {
  // A load that is not aligned ends a kernel on a device.
  if ((uintptr_t)at % sizeof(T)) abort();
  return *at;
}
template <class T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at += value;
  return old;
}
template <class T>
T atomicMax(T* at, T value) {
  const T old = *at;
  if (value > old) *at = value;
  return old;
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}
