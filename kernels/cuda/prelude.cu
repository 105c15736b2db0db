// What every program begins with: names of types, and reading memory. No header is included, so
// that NVRTC has little to read: with the CUDA headers a program took 1.3 to 3.5 s to compile.
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef __int128 i128;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned __int128 u128;

#define NOT_A_NUMBER (0.0 / 0.0)
#define DEVICE __device__ __forceinline__

constexpr u32 EVERY_LANE = 0xffffffffu;
constexpr i64 I64_LEAST = -0x7fffffffffffffffll - 1;
constexpr i64 I64_MOST = 0x7fffffffffffffffll;

// Rows of a thread that are under way together. Which of them are left is a bit of each: the rows of
// a thread may be counted by a loop then, where an array would not stay in registers.
constexpr int ITEMS = 8;

// The rows of a thread that there are, of those from `first` on, `step` apart.
DEVICE u32 rows_before(const i64 end, const i64 first, const i64 step) {
  u32 live = 0;
#pragma unroll
  for (int k = 0; k < ITEMS; ++k) live |= (u32)(first + k * step < end) << k;
  return live;
}

// Whether any row of a warp is left.
DEVICE bool any(const u32 live) { return __any_sync(EVERY_LANE, live != 0); }

// What a column holds. Not through the read-only cache: the compiler moves such loads past every
// barrier to where they are used, and a thread waits for each before it asks for the next.
template <class T>
DEVICE T load(const T* at) {
  return *at;
}

// Between what is read of several rows and what is made of it: all loads are under way before the
// first is waited for. Whole warps come here.
DEVICE void all_asked_for() { __syncwarp(); }

// A bit of a bitmap that need not begin at a whole byte.
DEVICE bool bit_at(const u8* bits, const i64 at) { return load(bits + (at >> 3)) >> (at & 7) & 1; }

// Arrow's 128 bits, low word first; the address is a multiple of 8, not always of 16.
DEVICE i128 wide(const u64 low, const i64 high) { return (i128)((u128)(u64)high << 64 | low); }
DEVICE i128 wide_at(const i64* words, const i64 row) {
  return wide((u64)load(words + 2 * row), load(words + 2 * row + 1));
}

// Integers divided by a positive one, rounded down: below 0 the complement is divided.
DEVICE i64 floor_divide(const i64 value, const i64 by) {
  const i64 sign = value >> 63;
  return ((value ^ sign) / by) ^ sign;
}

// Year, month or day of days since 1970 (H. Hinnant, chrono-compatible dates).
enum Part { YEAR, MONTH, DAY };
DEVICE i64 civil(const i64 days, const Part part) {
  const i64 shifted = days + 719468;
  const i64 era = floor_divide(shifted, 146097);
  const i32 doe = (i32)(shifted - era * 146097);
  const i32 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const i32 doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const i32 moved = (5 * doy + 2) / 153;
  if (part == DAY) return doy - (153 * moved + 2) / 5 + 1;
  const i32 month = moved < 10 ? moved + 3 : moved - 9;
  return part == MONTH ? month : yoe + 400 * era + (month <= 2);
}

// The value of the lane `by` above, and what is merged that way: a fixed order, so a fixed sum.
DEVICE i64 down(const i64 value, const int by) { return __shfl_down_sync(EVERY_LANE, value, by); }
DEVICE u64 down(const u64 value, const int by) { return __shfl_down_sync(EVERY_LANE, value, by); }
DEVICE double down(const double value, const int by) {
  return __shfl_down_sync(EVERY_LANE, value, by);
}
DEVICE i128 down(const i128 value, const int by) {
  return wide(down((u64)value, by), down((i64)(value >> 64), by));
}

// The smaller and the greater of two; a NaN only if both are, and -0.0 before 0.0.
DEVICE i64 lesser(const i64 a, const i64 b) { return b < a ? b : a; }
DEVICE u64 lesser(const u64 a, const u64 b) { return b < a ? b : a; }
DEVICE i128 lesser(const i128 a, const i128 b) { return b < a ? b : a; }
DEVICE i64 greater(const i64 a, const i64 b) { return b > a ? b : a; }
DEVICE u64 greater(const u64 a, const u64 b) { return b > a ? b : a; }
DEVICE i128 greater(const i128 a, const i128 b) { return b > a ? b : a; }
DEVICE bool is_negative(const double a) { return 1.0 / a < 0; }
DEVICE double lesser(const double a, const double b) {
  if (a != a) return b;
  return b < a || (a == 0 && b == 0 && is_negative(b)) ? b : a;
}
DEVICE double greater(const double a, const double b) {
  if (a != a) return b;
  return b > a || (a == 0 && b == 0 && is_negative(a)) ? b : a;
}

// The bits of a float, and unsigned integers in the order of the values they stand for.
DEVICE u64 bits_of(const double value) {
  u64 bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
DEVICE u64 ordered(const i64 value) { return (u64)value ^ 1ull << 63; }
DEVICE u64 ordered(const u64 value) { return value; }
DEVICE u64 ordered(const double value) {
  const u64 bits = bits_of(value);
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}

// The finaliser of splitmix64.
DEVICE u64 mixed(u64 word) {
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
  word = (word ^ word >> 27) * 0x94d049bb133111ebull;
  return word ^ word >> 31;
}

// Adds 128 bits as two words: every wrap of the lower is one more in the upper, in any order.
DEVICE void add_wide(u64* words, const i128 value) {
  const u64 low = (u64)value, before = atomicAdd(words, low);
  atomicAdd(words + 1, (u64)(value >> 64) + (before + low < before));
}
