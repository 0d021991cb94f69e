#pragma once
// A Team is a fixed number of threads that one rank or one engine thread owns; one thread at a time calls it.
// They wait spinning for a moment, then asleep: a call costs about a microsecond between kernels, where
// OpenMP's took six on a virtual machine.
//
// Work is cut by shape, never by thread count: for_each() hands out indices of a partition that the caller
// made from shapes alone, so a sum is formed in the same order whatever the team's size.

#include <cstdint>
#include <functional>

namespace flagscale {

// A reference to a callable; no allocation.
template <class Signature>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): a parameter type
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, A... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<A&&>(args)...);
        }) {}
  R operator()(A... args) const { return call_(object_, static_cast<A&&>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

class Team {
 public:
  // threads = 0: FLAGSCALE_THREADS or OMP_NUM_THREADS if set, else the cores this process may run on.
  explicit Team(int threads = 0);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Calls body(thread) once for every thread of the team, most often on it: the caller does what those have
  // not begun when it is through with its own. So bodies do not wait for one another. body must not throw.
  void run(FunctionRef<void(int)> body) const;

  // Calls body(i) for i in [0, n), each once, in contiguous chunks of `grain` handed out in order. body must
  // not throw.
  void for_each(int64_t n, FunctionRef<void(int64_t)> body, int64_t grain = 1) const;

 private:
  int size_;
  struct Workers;
  Workers* workers_ = nullptr;  // null: one thread
};

// The cores this process may run on (affinity and cgroup quota), at least 1.
int available_cores();

}  // namespace flagscale
