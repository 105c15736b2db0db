// Rows that pass, aggregated into one state. Columns are read when a row that is still left needs
// them; partial states are of SPAN rows each, and folded in their order.
//
// Before this stand also: Context, test_rows and add(c, row, state); AT_ONCE, how many blocks a core
// should have room for: without it the compiler spilled to reach a number of its own; reduce.cu.
constexpr int BLOCK = 256, ITEMS = 8;

// grid: any. Writes c.states: one a span.
extern "C" __global__ void __launch_bounds__(BLOCK, AT_ONCE)
    total_pass(const __grid_constant__ Context c) {
  const i64 spans = (c.rows + SPAN - 1) / SPAN;
  for (i64 span = blockIdx.x; span < spans; span += gridDim.x) {
    State state = zero();
    for (i64 step = 0; step < SPAN; step += BLOCK * ITEMS) {
      const i64 first = span * SPAN + step + threadIdx.x;
      bool live[ITEMS];
#pragma unroll
      for (int k = 0; k < ITEMS; ++k) live[k] = first + k * BLOCK < c.rows;
      test_rows(c, first, BLOCK, live);
#pragma unroll
      for (int k = 0; k < ITEMS; ++k)
        if (live[k]) add(c, first + k * BLOCK, state);
    }
    state = of_block<BLOCK>(state);
    if (threadIdx.x == 0) c.states[span] = state;
  }
}

// grid: 1. Writes c.states behind those of the spans: the state of all rows.
extern "C" __global__ void __launch_bounds__(BLOCK, AT_ONCE)
    fold_pass(const __grid_constant__ Context c) {
  const i64 spans = (c.rows + SPAN - 1) / SPAN;
  const State state = folded<BLOCK>(c.states, spans, 1);
  if (threadIdx.x == 0) c.states[spans] = state;
}
