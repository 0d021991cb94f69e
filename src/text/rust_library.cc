#include "text/rust_library.h"

#include "base/error.h"

namespace flagscale::text {

void check_rust(FsStatus status, const RustBuffer& buffer, std::string_view what, RustFault fault) {
  switch (status) {
    case 0:
      return;
    case 3:
      fail(ErrorKind::kResource, "{}: {}", what, buffer.view());
    case 4:
      fail(ErrorKind::kCorrupt, "{}: the Rust library gave up: {}", what, buffer.view());
    default:
      fail(fault == RustFault::kCorruptFile ? ErrorKind::kCorrupt : ErrorKind::kInvalidArgument, "{}: {}",
           what, buffer.view());
  }
}

std::string rust_nfc(std::string_view text) {
  RustBuffer result;
  check_rust(fs_nfc(bytes_of(text), text.size(), result.out()), result, "normalisation",
             RustFault::kInvalidArgument);
  return std::string(result.view());
}

}  // namespace flagscale::text
