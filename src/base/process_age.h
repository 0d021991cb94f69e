#pragma once

namespace flagscale {

// Seconds since this process started, to a hundredth.
double process_age();

}  // namespace flagscale
