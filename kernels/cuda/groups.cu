// Rows that pass, aggregated by keys of a small known domain: each thread has a state of its own
// for every group, in memory on chip, so that nothing is atomic and sums are the same every time.
// Words of 8 bytes lie THREADS apart: the threads of a warp read different banks. Behind the groups
// lies one for rows that do not pass, so that a thread adds all its rows without a branch.
//
// Before this stand also: Context; test_rows; read_add(c, row), what add(c, row, r, state) needs, and
// AT_ONCE, for how many rows it is read at once; GROUPS; THREADS; read_slot and slot(c, row, r), below
// GROUPS or, if a key is not in its domain, at least that; reduce.cu.
constexpr u32 STATE_WORDS = sizeof(State) / 8;
extern __shared__ u64 on_chip[];  // (GROUPS + 1) * STATE_WORDS * THREADS, which a launch asks for.

DEVICE State state_at(const u32 group) {
  u64 words[STATE_WORDS];
#pragma unroll
  for (int k = 0; k < STATE_WORDS; ++k)
    words[k] = on_chip[(group * STATE_WORDS + k) * THREADS + threadIdx.x];
  State state;
  memcpy(&state, words, sizeof state);
  return state;
}

DEVICE void keep_state(const u32 group, const State& state) {
  u64 words[STATE_WORDS];
  memcpy(words, &state, sizeof state);
#pragma unroll
  for (int k = 0; k < STATE_WORDS; ++k)
    on_chip[(group * STATE_WORDS + k) * THREADS + threadIdx.x] = words[k];
}

// grid: any. Writes c.states: GROUPS for each span; and c.outside, if a key is not in its domain.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    group_pass(const __grid_constant__ Context c) {
  const i64 spans = spans_of(c);
  for (i64 span = blockIdx.x; span < spans; span += gridDim.x) {
#pragma unroll 1
    for (u32 group = 0; group <= GROUPS; ++group) keep_state(group, zero());
    bool outside = false;
    for (i64 step = 0; step < c.span; step += THREADS * ITEMS) {
      const i64 first = span * c.span + step + threadIdx.x;
      const u32 live = test_rows(c, first, THREADS, rows_before(c.rows, first, THREADS));
      if (!any(live)) continue;
#pragma unroll 1
      for (int j = 0; j < ITEMS; j += AT_ONCE) {
        Read_slot keys[AT_ONCE];
        Read_add r[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
          const i64 row = live >> (j + k) & 1 ? first + (j + k) * THREADS : 0;
          keys[k] = read_slot(c, row);
          r[k] = read_add(c, row);
        }
        all_asked_for();
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
          const i64 row = first + (j + k) * THREADS;
          const u64 found = slot(c, row, keys[k]);
          const bool left = live >> (j + k) & 1, inside = found < GROUPS;
          outside |= left & !inside;
          const u32 group = left & inside ? (u32)found : GROUPS;
          State state = state_at(group);
          add(c, row, r[k], state);
          keep_state(group, state);
        }
      }
    }
    if (outside) *c.outside = 1;
#pragma unroll 1
    for (u32 group = 0; group < GROUPS; ++group) {
      const State state = of_block<THREADS>(state_at(group));
      if (threadIdx.x == 0) c.states[span * GROUPS + group] = state;
    }
  }
}

// grid: GROUPS. Writes c.states behind those of the spans: those of all rows.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fold_pass(const __grid_constant__ Context c) {
  const i64 spans = spans_of(c);
  const State state = folded<THREADS>(c.states + blockIdx.x, spans, GROUPS);
  if (threadIdx.x == 0) c.states[spans * GROUPS + blockIdx.x] = state;
}
