// Texts are bytes somewhere and their number; a thread reads a whole one.
struct Text {
  const u8* at;
  i64 size;
};

template <class Offset>
DEVICE Text text_at(const Offset* offsets, const u8* bytes, const i64 row) {
  const i64 begin = load(offsets + row);
  return {bytes + begin, (i64)load(offsets + row + 1) - begin};
}

// Views: 12 bytes or fewer lie in the view, more in one of the buffers.
DEVICE Text view_at(const u32* views, const u64* buffers, const i64 row) {
  const u32* view = views + 4 * row;
  const i64 size = (i32)load(view);
  if (size <= 12) return {(const u8*)(view + 1), size};
  return {(const u8*)load(buffers + load(view + 2)) + load(view + 3), size};
}

DEVICE bool same_bytes(const u8* a, const u8* b, const i64 size) {
  for (i64 k = 0; k < size; ++k)
    if (__ldg(a + k) != __ldg(b + k)) return false;
  return true;
}

// Below 0, 0 or above 0, as the order of bytes has it, which is that of characters.
DEVICE i64 compare(const Text a, const Text b) {
  const i64 size = a.size < b.size ? a.size : b.size;
  for (i64 k = 0; k < size; ++k) {
    const i64 apart = (i64)__ldg(a.at + k) - (i64)__ldg(b.at + k);
    if (apart) return apart;
  }
  return a.size - b.size;
}

DEVICE bool equal(const Text a, const Text b) {
  return a.size == b.size && same_bytes(a.at, b.at, a.size);
}

// `parts` are what stands between the % of a pattern: how many, the size of each, then their bytes.
// The first must begin the text, the last end it, and the others follow each other between.
DEVICE bool matches(const Text text, const i64* parts) {
  const i64 count = __ldg(parts);
  const u8* part = (const u8*)(parts + 1 + count);
  const i64 head = __ldg(parts + 1), tail = __ldg(parts + count);
  if (count == 1) return text.size == head && same_bytes(text.at, part, head);
  if (text.size < head + tail || !same_bytes(text.at, part, head)) return false;
  const i64 end = text.size - tail;
  i64 at = head;
  part += head;
  for (i64 k = 1; k < count - 1; ++k) {
    const i64 size = __ldg(parts + 1 + k);
    while (at + size <= end && !same_bytes(text.at + at, part, size)) ++at;
    if (at + size > end) return false;
    at += size;
    part += size;
  }
  return same_bytes(text.at + end, part, tail);
}
