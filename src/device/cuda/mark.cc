#include "device/cuda/mark.h"

#include "device/cuda/driver.h"

namespace flagscale::cuda {

Mark::Mark() {
  enter_here();
  check(driver().make_event(&event_, kUntimed), "make an event");
}

Mark::~Mark() { driver().free_event(event_); }

void Mark::set() const { check(driver().record_event(event_, thread_stream()), "record an event"); }

void Mark::wait() const {
  enter_here();
  check(driver().wait_for_event(event_), "a kernel failed");
}

}  // namespace flagscale::cuda
