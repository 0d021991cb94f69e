#include "io/gguf_cursor.h"

namespace flagscale::io {

namespace {
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

template <class List, class T>
GgufValue take_list(GgufCursor& cursor, uint64_t count) {
  List list;
  list.reserve(count);
  for (uint64_t i = 0; i < count; ++i)
    list.push_back(static_cast<typename List::value_type>(cursor.take<T>()));
  return list;
}

GgufValue take_array(const std::string& path, const std::string& key, GgufCursor& cursor) {
  const auto type = cursor.take<uint32_t>();
  constexpr uint64_t kItemBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  if (type > kF64) fail(ErrorKind::kCorrupt, "{}: '{}' is an array of unknown type {}", path, key, type);
  if (type == kArray) fail(ErrorKind::kUnsupported, "{}: '{}' is an array of arrays", path, key);
  const uint64_t count = cursor.take_count(kItemBytes[type], "array items");
  switch (type) {
    case kU8:
    case kBool:
      return take_list<GgufInts, uint8_t>(cursor, count);
    case kI8:
      return take_list<GgufInts, int8_t>(cursor, count);
    case kU16:
      return take_list<GgufInts, uint16_t>(cursor, count);
    case kI16:
      return take_list<GgufInts, int16_t>(cursor, count);
    case kU32:
      return take_list<GgufInts, uint32_t>(cursor, count);
    case kI32:
      return take_list<GgufInts, int32_t>(cursor, count);
    case kU64:
      return take_list<GgufInts, uint64_t>(cursor, count);
    case kI64:
      return take_list<GgufInts, int64_t>(cursor, count);
    case kF32:
      return take_list<GgufFloats, float>(cursor, count);
    case kF64:
      return take_list<GgufFloats, double>(cursor, count);
    default:
      break;
  }
  GgufStrings strings;
  strings.reserve(count);
  for (uint64_t i = 0; i < count; ++i) strings.push_back(cursor.take_string());
  return strings;
}
}  // namespace

GgufValue take_gguf_value(const std::string& path, const std::string& key, GgufCursor& cursor) {
  const auto type = cursor.take<uint32_t>();
  switch (type) {
    case kU8:
      return int64_t{cursor.take<uint8_t>()};
    case kI8:
      return int64_t{cursor.take<int8_t>()};
    case kU16:
      return int64_t{cursor.take<uint16_t>()};
    case kI16:
      return int64_t{cursor.take<int16_t>()};
    case kU32:
      return int64_t{cursor.take<uint32_t>()};
    case kI32:
      return int64_t{cursor.take<int32_t>()};
    case kU64:
      return static_cast<int64_t>(cursor.take<uint64_t>());
    case kI64:
      return cursor.take<int64_t>();
    case kF32:
      return double{cursor.take<float>()};
    case kF64:
      return cursor.take<double>();
    case kBool:
      return cursor.take<uint8_t>() != 0;
    case kString:
      return cursor.take_string();
    case kArray:
      return take_array(path, key, cursor);
    default:
      fail(ErrorKind::kCorrupt, "{}: '{}' has unknown type {}", path, key, type);
  }
}

}  // namespace flagscale::io
