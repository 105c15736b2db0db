// Rows that pass, in their order, in two passes and exactly as many. The first makes a bit a row
// and a count a tile; tiles are scanned; the second reads what is kept only, and writes it.
//
// Before this stand: Context; TESTED, whether there is a predicate; BITMAPS; test_rows(c, first, step,
// live), which clears what does not pass; read_write(c, row), what write(c, row, at, r) needs, which
// gives a bit for each bitmap, and AT_ONCE, for how many rows it is read at once; bitmap(c, number).
// Kernels say how many blocks a core should have room for: without it the compiler spilled to reach a
// number of its own.
constexpr int BLOCK = 256, WARPS = BLOCK / 32;
constexpr i64 TILE = BLOCK * ITEMS;

// grid: tiles. Writes c.bits (one u32 for 32 rows) and c.counts (one u32 a tile).
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mask_pass(const __grid_constant__ Context c) {
  __shared__ u32 found[WARPS];
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i64 begin = blockIdx.x * TILE + warp * 32 * ITEMS;
  const u32 live = test_rows(c, begin + lane, 32, rows_before(c.rows, begin + lane, 32));
  u32 hits = 0, own = 0;
#pragma unroll
  for (int w = 0; w < ITEMS; ++w) {
    const u32 word = __ballot_sync(EVERY_LANE, live >> w & 1);
    hits += __popc(word);
    own = lane == w ? word : own;
  }
  if (lane < ITEMS && begin + lane * 32 < c.rows) c.bits[(begin >> 5) + lane] = own;
  if (lane == 0) found[warp] = hits;
  __syncthreads();
  if (threadIdx.x == 0) {
    u32 sum = 0;
    for (int k = 0; k < WARPS; ++k) sum += found[k];
    c.counts[blockIdx.x] = sum;
  }
}

// grid: one for SCANNED tiles. Writes c.offsets: where the rows of each tile go, and behind them how
// many there are. A block adds up all counts before its own, which lie in the cache: of the 18 blocks
// of 600 million rows the last adds 280,000, where one block alone would write as many, one by one.
constexpr int SCANNING = 1024, EACH = 16, SUMS = SCANNING / 32;
constexpr i64 SCANNED = SCANNING * EACH;
extern "C" __global__ void __launch_bounds__(SCANNING, 1)
    scan_pass(const __grid_constant__ Context c) {
  __shared__ u64 earlier[SUMS], sums[SUMS];
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i64 tiles = (c.rows + TILE - 1) / TILE, begin = blockIdx.x * SCANNED;
  u64 before = 0;
  for (i64 tile = threadIdx.x; tile < begin; tile += SCANNED) {
    u32 sum = 0;
#pragma unroll
    for (int k = 0; k < EACH; ++k) sum += c.counts[tile + k * SCANNING];
    before += sum;
  }
  // Neighbours read neighbours, here and where they write.
  const i64 first = begin + warp * 32 * EACH + lane;
  u32 own = 0;
#pragma unroll
  for (int k = 0; k < EACH; ++k) own += first + k * 32 < tiles ? c.counts[first + k * 32] : 0;
  own = __reduce_add_sync(EVERY_LANE, own);
#pragma unroll 1
  for (int by = 16; by > 0; by /= 2) before += down(before, by);
  if (lane == 0) {
    earlier[warp] = before;
    sums[warp] = own;
  }
  __syncthreads();
  u64 at = 0;
#pragma unroll 1
  for (u32 k = 0; k < SUMS; ++k) at += earlier[k] + (k < warp ? sums[k] : 0);
#pragma unroll 1
  for (int k = 0; k < EACH; ++k) {
    const i64 tile = first + k * 32;
    const u32 count = tile < tiles ? c.counts[tile] : 0;
    u32 upto = count;
#pragma unroll 1
    for (int by = 1; by < 32; by *= 2) {
      const u32 below = __shfl_up_sync(EVERY_LANE, upto, by);
      upto += lane >= by ? below : 0;
    }
    if (tile < tiles) c.offsets[tile] = at + upto - count;
    at += __shfl_sync(EVERY_LANE, upto, 31);
  }
  if (threadIdx.x == SCANNING - 1 && begin + SCANNED >= tiles) c.offsets[tiles] = at;
}

// The bits of the lanes of one word, which go to `at` and on; a bitmap begins all zero.
DEVICE void put_bits(u32* bitmap, const u64 first, const u64 at, const bool bit) {
  const u32 mine = (u32)bit << (at & 31);
  const bool here = at >> 5 == first >> 5;
  const u32 low = __reduce_or_sync(EVERY_LANE, here ? mine : 0u);
  const u32 high = __reduce_or_sync(EVERY_LANE, here ? 0u : mine);
  if ((threadIdx.x & 31) == 0) {
    if (low) atomicOr(bitmap + (first >> 5), low);
    if (high) atomicOr(bitmap + (first >> 5) + 1, high);
  }
}

// grid: tiles. Without a predicate every row is kept, and nothing is scanned.
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    write_pass(const __grid_constant__ Context c) {
  __shared__ u32 found[WARPS];
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i64 begin = blockIdx.x * TILE + warp * 32 * ITEMS;
  // Each of the first lanes has a word, and all have what it says of their rows.
  u32 own = 0;
  if (lane < ITEMS && begin + lane * 32 < c.rows) {
    const i64 left = c.rows - begin - lane * 32;
    own = TESTED ? c.bits[(begin >> 5) + lane] : left < 32 ? (1u << left) - 1 : EVERY_LANE;
  }
  const u32 hits = __reduce_add_sync(EVERY_LANE, __popc(own));
  if (lane == 0) found[warp] = hits;
  u64 first = TESTED ? c.offsets[blockIdx.x] : (u64)(blockIdx.x * TILE);
  __syncthreads();
  if (hits == 0) return;
#pragma unroll 1
  for (u32 k = 0; k < warp; ++k) first += found[k];
  // Which of the warp's rows are kept, so that all lanes have one of those.
  __shared__ u8 kept[WARPS][32 * ITEMS];
  u32 before = 0;
#pragma unroll
  for (int w = 0; w < ITEMS; ++w) {
    const u32 word = __shfl_sync(EVERY_LANE, own, w);
    const u32 at = before + __popc(word & ((1u << lane) - 1));
    if (word >> lane & 1) kept[warp][at] = (u8)(w * 32 + lane);
    before += __popc(word);
  }
  __syncwarp();
#pragma unroll 1
  for (u32 j = 0; j < hits; j += 32 * AT_ONCE) {
    Read_write r[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const u32 at = j + k * 32 + lane;
      r[k] = read_write(c, at < hits ? begin + kept[warp][at] : 0);
    }
    all_asked_for();
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const u32 at = j + k * 32 + lane;
      const u64 bits = at < hits ? write(c, begin + kept[warp][at], first + at, r[k]) : 0;
#pragma unroll 1
      for (int n = 0; n < BITMAPS; ++n)
        put_bits(bitmap(c, n), first + j + k * 32, first + at, bits >> n & 1);
    }
  }
}
