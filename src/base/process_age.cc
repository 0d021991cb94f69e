#include "base/process_age.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace flagscale {

// Field 22 of /proc/self/stat is its start in clock ticks after boot.
double process_age() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text;
  std::getline(stat, text);
  std::string field;
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  for (int i = 3; i <= 22; ++i) fields >> field;
  double up = 0;
  uptime >> up;
  return up - std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace flagscale
