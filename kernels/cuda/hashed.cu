// Rows that pass, aggregated by keys of any number, in an open table. A place belongs to the row that
// took it first, and keys are compared by reading that row again: nothing is published that another
// thread could read half written. States are words that begin at 0 and change by integer atomics
// only, whose order does not matter; so no float is summed here.
//
// Before this stand: Context; Key, key_at(c, row), same(a, b), hash(key); passing_rows; collect(c, row,
// state), state being STATE_WORDS of c.states. After it filter.cu, which writes each group where its
// first row would go.
constexpr int INSERTING = 256, AT_A_TIME = 4;

// The place of a row's key; or -1, and c.full, if c.probes places from its first on have others.
DEVICE i64 place_of(const Context& c, const i64 row) {
  const Key key = key_at(c, row);
  u64 place = hash(key) & c.mask;
  for (u64 probe = 0; probe < c.probes; ++probe) {
    u64 owner = ((const volatile u64*)c.owners)[place];
    if (owner == 0) owner = atomicCAS(c.owners + place, 0ull, (u64)row + 1);
    if (owner == 0 || same(key, key_at(c, (i64)owner - 1))) return (i64)place;
    place = (place + 1) & c.mask;
  }
  *c.full = 1;
  return -1;
}

// grid: any. Writes c.places (of each row its place, or -1), c.firsts and c.states; once the table
// is too small, which c.full says, all that is of no use, and no more is done.
extern "C" __global__ void __launch_bounds__(INSERTING, 1)
    insert_pass(const __grid_constant__ Context c) {
  const i64 apart = (i64)gridDim.x * INSERTING * AT_A_TIME;
  for (i64 begin = (i64)blockIdx.x * INSERTING * AT_A_TIME; begin < c.rows; begin += apart) {
    if (*(const volatile u32*)c.full) return;
    const i64 first = begin + threadIdx.x;
    bool live[AT_A_TIME];
#pragma unroll
    for (int k = 0; k < AT_A_TIME; ++k) live[k] = first + k * INSERTING < c.rows;
    passing_rows(c, first, INSERTING, live);
#pragma unroll 1
    for (int k = 0; k < AT_A_TIME; ++k) {
      const i64 row = first + k * INSERTING;
      if (row >= c.rows) continue;
      const i64 place = live[k] ? place_of(c, row) : -1;
      c.places[row] = place;
      if (place < 0) continue;
      atomicMax(c.firsts + place, ~(u64)row);  // The first row has the greatest complement.
      collect(c, row, c.states + place * STATE_WORDS);
    }
  }
}

// What filter.cu keeps: the first row of each group.
template <int N>
DEVICE void test_rows(const Context& c, const i64 first, const i64 step, bool (&live)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const i64 row = first + k * step, place = live[k] ? c.places[row] : -1;
    live[k] = place >= 0 && c.firsts[place] == ~(u64)row;
  }
}
