// Rows that pass, aggregated by keys of a small known domain: each thread has a state of its own
// for every group, in memory on chip, so that nothing is atomic and sums are the same every time.
// Words of 8 bytes lie THREADS apart: the threads of a warp read different banks.
//
// Before this stand also: Context; test_rows; add(c, row, state); GROUPS; THREADS; slot(c, row),
// below GROUPS or, if a key is not in its domain, at least that; reduce.cu.
constexpr int ITEMS = 4, STATE_WORDS = sizeof(State) / 8;
__shared__ u64 kept[GROUPS * STATE_WORDS * THREADS];

DEVICE State state_at(const int group) {
  u64 words[STATE_WORDS];
#pragma unroll
  for (int k = 0; k < STATE_WORDS; ++k)
    words[k] = kept[(group * STATE_WORDS + k) * THREADS + threadIdx.x];
  State state;
  memcpy(&state, words, sizeof state);
  return state;
}

DEVICE void keep_state(const int group, const State& state) {
  u64 words[STATE_WORDS];
  memcpy(words, &state, sizeof state);
#pragma unroll
  for (int k = 0; k < STATE_WORDS; ++k)
    kept[(group * STATE_WORDS + k) * THREADS + threadIdx.x] = words[k];
}

// grid: any. Writes c.states: GROUPS for each span; and c.outside, if a key is not in its domain.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    group_pass(const __grid_constant__ Context c) {
  const i64 spans = (c.rows + SPAN - 1) / SPAN;
  for (i64 span = blockIdx.x; span < spans; span += gridDim.x) {
#pragma unroll 1
    for (int group = 0; group < GROUPS; ++group) keep_state(group, zero());
    for (i64 step = 0; step < SPAN; step += THREADS * ITEMS) {
      const i64 first = span * SPAN + step + threadIdx.x;
      bool live[ITEMS];
#pragma unroll
      for (int k = 0; k < ITEMS; ++k) live[k] = first + k * THREADS < c.rows;
      test_rows(c, first, THREADS, live);
#pragma unroll
      for (int k = 0; k < ITEMS; ++k) {
        if (!live[k]) continue;
        const u64 group = slot(c, first + k * THREADS);
        if (group >= GROUPS) {
          *c.outside = 1;
          continue;
        }
        State state = state_at(group);
        add(c, first + k * THREADS, state);
        keep_state(group, state);
      }
    }
#pragma unroll 1
    for (int group = 0; group < GROUPS; ++group) {
      const State state = of_block<THREADS>(state_at(group));
      if (threadIdx.x == 0) c.states[span * GROUPS + group] = state;
    }
  }
}

// grid: GROUPS. Writes c.states behind those of the spans: those of all rows.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fold_pass(const __grid_constant__ Context c) {
  const i64 spans = (c.rows + SPAN - 1) / SPAN;
  const State state = folded<THREADS>(c.states + blockIdx.x, spans, GROUPS);
  if (threadIdx.x == 0) c.states[spans * GROUPS + blockIdx.x] = state;
}
