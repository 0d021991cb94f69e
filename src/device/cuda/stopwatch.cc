#include "device/cuda/stopwatch.h"

#include "device/cuda/driver.h"

namespace flagscale::cuda {

Stopwatch::Stopwatch() {
  enter_here();
  check(driver().make_event(&start_, 0), "make an event");
  check(driver().make_event(&stop_, 0), "make an event");
}

Stopwatch::~Stopwatch() {
  driver().free_event(start_);
  driver().free_event(stop_);
}

void Stopwatch::start() const {
  check(driver().record_event_in_graph(start_, thread_stream(), kExternal), "record an event");
}

void Stopwatch::stop() const {
  check(driver().record_event_in_graph(stop_, thread_stream(), kExternal), "record an event");
}

double Stopwatch::seconds() const {
  float milliseconds = 0;
  check(driver().elapsed(&milliseconds, start_, stop_), "read the time of an event");
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace flagscale::cuda
