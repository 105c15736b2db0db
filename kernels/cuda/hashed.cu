// Rows that pass, aggregated by keys of any number, in an open table. A place belongs to the row that
// took it first, and keys are compared by reading that row again: nothing is published that another
// thread could read half written. States are words that begin at 0 and change by integer atomics
// only, whose order does not matter; so no float is summed here.
//
// Before this stand: Context; Key, read_key(c, row), key_of(c, row, r), same(a, b), hash(key);
// passing_rows; read_collect and collect(c, row, r, state), state being STATE_WORDS of c.states. After
// it filter.cu, which writes each group where its first row would go.
constexpr int INSERTING = 256;

DEVICE Key key_at(const Context& c, const i64 row) { return key_of(c, row, read_key(c, row)); }

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
  const i64 apart = (i64)gridDim.x * INSERTING * ITEMS;
  for (i64 begin = (i64)blockIdx.x * INSERTING * ITEMS; begin < c.rows; begin += apart) {
    if (__any_sync(EVERY_LANE, *(const volatile u32*)c.full)) return;
    const i64 first = begin + threadIdx.x;
    const u32 live = passing_rows(c, first, INSERTING, rows_before(c.rows, first, INSERTING));
#pragma unroll 1
    for (int k = 0; k < ITEMS; ++k) {
      const i64 row = first + k * INSERTING;
      if (row >= c.rows) continue;
      const i64 place = live >> k & 1 ? place_of(c, row) : -1;
      c.places[row] = place;
      if (place < 0) continue;
      // The first row has the greatest complement; most rows find that an earlier one was there.
      u64* first_of = c.firsts + place;
      if (*(const volatile u64*)first_of < ~(u64)row) atomicMax(first_of, ~(u64)row);
      collect(c, row, read_collect(c, row), c.states + place * STATE_WORDS);
    }
  }
}

// What filter.cu keeps: the first row of each group.
DEVICE u32 test_rows(const Context& c, const i64 first, const i64 step, u32 live) {
#pragma unroll
  for (int k = 0; k < ITEMS; ++k) {
    const i64 row = first + k * step, place = live >> k & 1 ? c.places[row] : -1;
    if (place < 0 || c.firsts[place] != ~(u64)row) live &= ~(1u << k);
  }
  return live;
}
