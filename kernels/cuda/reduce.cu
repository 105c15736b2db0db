// States of many threads as one, always in the same order, so that sums are the same bit for bit on
// every device and however many blocks run at once. No value is added atomically.
//
// Before this stand: State, zero(), merge(state, other), and down(state, by).
//
// Loops are not unrolled: they run once for many rows, and made NVRTC take 1.3 to 1.7 times as long.
constexpr i64 SPAN = 32768;  // Rows that one partial state is of.

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

// Partial states of one group, `apart` from each other, as one; of small states several are under way.
template <int THREADS>
DEVICE State folded(const State* partials, const i64 spans, const i64 apart) {
  constexpr int TOGETHER = sizeof(State) <= 64 ? 4 : 1;
  State state = zero();
#pragma unroll 1
  for (i64 begin = threadIdx.x; begin < spans; begin += TOGETHER * THREADS) {
    State parts[TOGETHER];
#pragma unroll
    for (int k = 0; k < TOGETHER; ++k) {
      const i64 span = begin + k * THREADS;
      parts[k] = span < spans ? partials[span * apart] : zero();
    }
#pragma unroll
    for (int k = 0; k < TOGETHER; ++k) merge(state, parts[k]);
  }
  return of_block<THREADS>(state);
}
