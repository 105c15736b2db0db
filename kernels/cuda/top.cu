// The first rows in key order of those that pass, without sorting the others. A block keeps on chip
// the best that it has seen and what came since; when there is no more room it sorts them and
// forgets all but the best. The number of a row is the last word of its key: so no two are equal,
// and the answer is the same however rows fall to blocks.
//
// Before this stand: Context; KEY_WORDS; test_rows; read_front, FRONTS, for how many rows it is read
// at once, and front(c, row, r), the first word of a key; read_key and key_of(c, row, r), an Entry
// but for its row; read_write and write(c, row, at, r), which gives a bit for each of BITMAPS;
// bitmap(c, number).
constexpr int BLOCK = 256;
constexpr i64 TILE = BLOCK * ITEMS;
constexpr u32 CAPACITY = 2048;
extern __shared__ u64 on_chip[];  // CAPACITY * (KEY_WORDS + 1), which a launch asks for.
__shared__ u32 filled;
__shared__ Entry limit;  // Behind it nothing is wanted: the last of the best, once there are enough.

// What all blocks know together, of all pieces of a share until now.
struct Reached {
  u64 limit, passed;  // The complement of a first word: what is above it is too late. Rows that passed.
};

// What is behind every row.
DEVICE Entry no_entry() {
  Entry entry;
#pragma unroll
  for (int k = 0; k <= KEY_WORDS; ++k) entry.words[k] = ~0ull;
  return entry;
}

DEVICE bool before(const Entry& a, const Entry& b) {
  bool found = false;
#pragma unroll
  for (int k = KEY_WORDS; k >= 0; --k)
    found = a.words[k] < b.words[k] || (a.words[k] == b.words[k] && found);
  return found;
}

// Words of an entry lie CAPACITY apart: the threads of a warp read different banks.
DEVICE Entry entry_at(const u32 place) {
  Entry entry;
#pragma unroll
  for (int k = 0; k <= KEY_WORDS; ++k) entry.words[k] = on_chip[k * CAPACITY + place];
  return entry;
}

DEVICE void keep_entry(const u32 place, const Entry& entry) {
#pragma unroll
  for (int k = 0; k <= KEY_WORDS; ++k) on_chip[k * CAPACITY + place] = entry.words[k];
}

// Every thread of the block must come here, and to what follows, as to a barrier.
DEVICE void begin_empty() {
  if (threadIdx.x == 0) {
    filled = 0;
    limit = no_entry();
  }
  __syncthreads();
}

// Sorts what is kept (a bitonic network) and forgets all but the first c.count.
__device__ __noinline__ void shrink(const Context& c) {
  const u32 had = filled < CAPACITY ? filled : CAPACITY;
  u32 used = 2;
  while (used < had) used *= 2;
  for (u32 place = had + threadIdx.x; place < used; place += BLOCK) keep_entry(place, no_entry());
  __syncthreads();
#pragma unroll 1
  for (u32 size = 2; size <= used; size *= 2) {
#pragma unroll 1
    for (u32 apart = size / 2; apart > 0; apart /= 2) {
#pragma unroll 1
      for (u32 pair = threadIdx.x; pair < used / 2; pair += BLOCK) {
        const u32 low = 2 * pair - (pair & (apart - 1)), high = low + apart;
        const Entry a = entry_at(low), b = entry_at(high);
        if (before(b, a) == ((low & size) == 0)) {
          keep_entry(low, b);
          keep_entry(high, a);
        }
      }
      __syncthreads();
    }
  }
  if (threadIdx.x == 0) {
    const bool enough = had >= c.count;
    filled = enough ? (u32)c.count : had;
    if (enough) {
      limit = entry_at((u32)c.count - 1);
      // A complement, so that it begins at 0. Other blocks may know of a nearer limit.
      atomicMax(&c.reached->limit, ~limit.words[0]);
    }
  }
  __syncthreads();
}

DEVICE void take(const Context& c, const Entry& entry, bool wanted) {
  for (;;) {
    wanted = wanted && before(entry, limit);
    if (wanted) {
      const u32 place = atomicAdd(&filled, 1u);
      if (place < CAPACITY) {
        keep_entry(place, entry);
        wanted = false;
      }
    }
    if (!__syncthreads_or(wanted)) return;
    shrink(c);
  }
}

DEVICE Entry entry_of(const Context& c, const i64 row) {
  Entry entry = key_of(c, row, read_key(c, row));
  entry.words[KEY_WORDS] = (u64)row;
  return entry;
}

// Which of a thread's rows are not surely behind those that are wanted.
DEVICE u32 near_rows(const Context& c, const i64 first, u32 live) {
  const u64 mine = limit.words[0], known = ~*(const volatile u64*)&c.reached->limit;
  const u64 most = known < mine ? known : mine;
  if (!any(live)) return 0;
#pragma unroll 1
  for (int j = 0; j < ITEMS; j += FRONTS) {
    Read_front r[FRONTS];
#pragma unroll
    for (int k = 0; k < FRONTS; ++k)
      r[k] = read_front(c, live >> (j + k) & 1 ? first + (j + k) * BLOCK : 0);
    all_asked_for();
#pragma unroll
    for (int k = 0; k < FRONTS; ++k)
      if (front(c, first + (j + k) * BLOCK, r[k]) > most) live &= ~(1u << (j + k));
  }
  return live;
}

// grid: any. Writes c.bests: of each block c.count entries, the first of all blocks first.
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    top_pass(const __grid_constant__ Context c) {
  begin_empty();
  u32 passed = 0;
  for (i64 begin = blockIdx.x * TILE; begin < c.rows; begin += gridDim.x * TILE) {
    const i64 first = begin + threadIdx.x;
    u32 live = test_rows(c, first, BLOCK, rows_before(c.rows, first, BLOCK));
    passed += __popc(live);
    live = near_rows(c, first, live);
    if (!__syncthreads_or(live != 0)) continue;
#pragma unroll 1
    for (int k = 0; k < ITEMS; ++k) {
      const bool wanted = live >> k & 1;
      take(c, wanted ? entry_of(c, first + k * BLOCK) : no_entry(), wanted);
    }
  }
  passed = __reduce_add_sync(EVERY_LANE, passed);
  if ((threadIdx.x & 31) == 0) atomicAdd(&c.reached->passed, (u64)passed);
  shrink(c);
  for (u32 place = threadIdx.x; place < c.count; place += BLOCK) {
    const Entry entry = place < filled ? entry_at(place) : no_entry();
    u64* at = c.bests + ((i64)place * gridDim.x + blockIdx.x) * (KEY_WORDS + 1);
#pragma unroll
    for (int k = 0; k <= KEY_WORDS; ++k) at[k] = entry.words[k];
  }
}

// grid: 1. Writes c.found, how many rows there are and how many passed until now, and what write
// writes of them, in key order.
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    pick_pass(const __grid_constant__ Context c) {
  begin_empty();
  const i64 entries = (i64)c.blocks * c.count;
  for (i64 begin = 0; begin < entries; begin += TILE) {
    bool near = false;
#pragma unroll 1
    for (int k = 0; k < ITEMS; ++k) {
      const i64 number = begin + k * BLOCK + threadIdx.x;
      near |= number < entries && c.bests[number * (KEY_WORDS + 1)] <= limit.words[0];
    }
    // Of every block an entry was behind the limit, and so is what follows it.
    if (!__syncthreads_or(near) && c.blocks <= TILE) break;
#pragma unroll 1
    for (int k = 0; k < ITEMS; ++k) {
      const i64 number = begin + k * BLOCK + threadIdx.x;
      Entry entry = no_entry();
      if (number < entries)
#pragma unroll
        for (int n = 0; n <= KEY_WORDS; ++n) entry.words[n] = c.bests[number * (KEY_WORDS + 1) + n];
      take(c, entry, number < entries && entry.words[KEY_WORDS] != ~0ull);
    }
  }
  shrink(c);
  if (threadIdx.x == 0) {
    c.found[0] = filled;
    c.found[1] = c.reached->passed;
  }
  const u32 lane = threadIdx.x & 31;
#pragma unroll 1
  for (u32 begin = threadIdx.x - lane; begin < filled; begin += BLOCK) {
    const u32 at = begin + lane;
    const i64 row = at < filled ? (i64)on_chip[KEY_WORDS * CAPACITY + at] : 0;
    const Read_write r = read_write(c, row);
    const u64 bits = at < filled ? write(c, row, at, r) : 0;
#pragma unroll 1
    for (int n = 0; n < BITMAPS; ++n) {
      const u32 word = __ballot_sync(EVERY_LANE, bits >> n & 1);
      if (lane == 0) bitmap(c, n)[begin >> 5] = word;
    }
  }
}
