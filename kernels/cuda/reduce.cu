// States of many threads as one, always in the same order, so that sums are the same bit for bit on
// every device and however many blocks run at once. No value is added atomically.
//
// Before this stand: State, zero(), merge(state, other), and down(state, by).
//
// Loops are not unrolled: they run once for many rows, and made NVRTC take 1.3 to 1.7 times as long.

// Of how many spans of c.span rows, which have a partial state each, all rows are.
DEVICE i64 spans_of(const Context& c) { return (c.rows + c.span - 1) / c.span; }

// The state of a whole block, in its first thread. Every thread of the block must call this.
template <int THREADS>
DEVICE State of_block(State state) {
  __shared__ State of_warp[THREADS / 32];
#pragma unroll 1
  for (int by = 16; by > 0; by /= 2) merge(state, down(state, by));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) of_warp[threadIdx.x >> 5] = state;
  __syncthreads();
  if (threadIdx.x == 0)
#pragma unroll 1
    for (int warp = 1; warp < THREADS / 32; ++warp) merge(state, of_warp[warp]);
  return state;
}

// Partial states of one group, `apart` from each other, as one, in the first thread; they are not what
// they were then. In memory, not as above: what is there once takes NVRTC half as long as twice.
template <int THREADS>
DEVICE State folded(State* partials, const i64 spans, const i64 apart) {
  const i64 own = threadIdx.x;
  if (own < spans) {
    State state = partials[own * apart];
#pragma unroll 1
    for (i64 span = own + THREADS; span < spans; span += THREADS)
      merge(state, partials[span * apart]);
    partials[own * apart] = state;
  }
#pragma unroll 1
  for (int by = THREADS / 2; by > 0; by /= 2) {
    __syncthreads();
    if (own < by && own + by < spans) merge(partials[own * apart], partials[(own + by) * apart]);
  }
  return spans ? partials[0] : zero();
}
