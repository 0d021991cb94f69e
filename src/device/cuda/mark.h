#pragma once
// A place in what a thread launches, for a host that waits for what is before it and not for what is behind.

namespace flagscale::cuda {

struct EventObject;

class Mark {
 public:
  Mark();
  ~Mark();
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  // Behind what this thread has launched so far; not while a Graph records.
  void set() const;
  // Until that is done; at once where it was never set. Throws as synchronize().
  void wait() const;

 private:
  EventObject* event_ = nullptr;
};

}  // namespace flagscale::cuda
