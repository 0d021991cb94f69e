#include "base/error.h"

#include <exception>

#include "base/does_not_fit.h"

namespace flagscale {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kConfig:
      return 2;
    case ErrorKind::kInterrupted:
      return 130;
    default:
      return 1;
  }
}

int http_status(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kConfig:
    case ErrorKind::kUnsupported:
      return 400;
    case ErrorKind::kNotFound:
      return 404;
    case ErrorKind::kResource:
      return 413;
    case ErrorKind::kBusy:
      return 429;
    case ErrorKind::kDevice:
      return 503;
    default:
      return 500;
  }
}

const char* name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return "invalid argument";
    case ErrorKind::kNotFound:
      return "not found";
    case ErrorKind::kConfig:
      return "configuration";
    case ErrorKind::kCorrupt:
      return "corrupt data";
    case ErrorKind::kResource:
      return "resource";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kInterrupted:
      return "interrupted";
    case ErrorKind::kBusy:
      return "busy";
    case ErrorKind::kDevice:
      return "device";
  }
  return "error";
}

void rethrow_with(const std::string& context) {
  try {
    throw;
  } catch (const DoesNotFit& error) {
    throw DoesNotFit(context + ": " + error.what());
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInterrupted) throw;  // no fault of anything
    throw Error(error.kind(), context + ": " + error.what());
  }
}

}  // namespace flagscale
