#include "engine/logits_scan.h"

#include "base/check.h"

namespace flagscale::engine {

namespace {
constinit LogitsScan scans[kNumIsas];
}

AddLogitsScan::AddLogitsScan(Isa isa, LogitsScan scan) { scans[static_cast<int>(isa)] = scan; }

const LogitsScan& logits_scan(Isa isa) {
  const LogitsScan& scan = scans[static_cast<int>(isa)];
  FLAGSCALE_CHECK(scan.blocks && scan.exponents);
  return scan;
}

const LogitsScan& logits_scan() {
  static const LogitsScan& best = logits_scan(machine_isa());
  return best;
}

}  // namespace flagscale::engine
