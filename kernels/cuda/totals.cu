// Rows that pass, aggregated into one state. Columns are read when a row that is still left needs
// them; partial states are of c.span rows each, and folded in their order.
//
// Before this stand also: Context; test_rows; read_add(c, row), what add(c, row, r, state) needs, and
// AT_ONCE, for how many rows it is read at once; BLOCKS, how many a core should have room for: without
// it the compiler spilled to reach a number of its own; reduce.cu.
constexpr int BLOCK = 256;

// grid: any. Writes c.states: one a span.
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS)
    total_pass(const __grid_constant__ Context c) {
  const i64 spans = spans_of(c);
  for (i64 span = blockIdx.x; span < spans; span += gridDim.x) {
    State state = zero();
    for (i64 step = 0; step < c.span; step += BLOCK * ITEMS) {
      const i64 first = span * c.span + step + threadIdx.x;
      const u32 live = test_rows(c, first, BLOCK, rows_before(c.rows, first, BLOCK));
      if (!any(live)) continue;
#pragma unroll 1
      for (int j = 0; j < ITEMS; j += AT_ONCE) {
        Read_add r[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
          r[k] = read_add(c, live >> (j + k) & 1 ? first + (j + k) * BLOCK : 0);
        all_asked_for();
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
          if (live >> (j + k) & 1) add(c, first + (j + k) * BLOCK, r[k], state);
      }
    }
    state = of_block<BLOCK>(state);
    if (threadIdx.x == 0) c.states[span] = state;
  }
}

// grid: 1. Writes c.states behind those of the spans: the state of all rows.
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS)
    fold_pass(const __grid_constant__ Context c) {
  const i64 spans = spans_of(c);
  const State state = folded<BLOCK>(c.states, spans, 1);
  if (threadIdx.x == 0) c.states[spans] = state;
}
