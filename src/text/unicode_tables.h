#pragma once
// Generated tables in two stages: Values[Index[c >> 7] * 128 + (c & 127)]; classes are packed two to a byte.

#include <cstdint>

namespace flagscale::text {

extern const uint8_t kClassIndex[];
extern const uint8_t kClassValues[];
extern const uint8_t kCombiningIndex[];
extern const uint8_t kCombiningValues[];

}  // namespace flagscale::text
