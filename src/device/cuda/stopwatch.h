#pragma once
// How long a GPU takes from one place of a graph to another, by its own clock.

namespace flagscale::cuda {

struct EventObject;

class Stopwatch {
 public:
  Stopwatch();
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  // Among what a Graph records.
  void start() const;
  void stop() const;

  // Of the last launch of that graph, once synchronize() has returned.
  double seconds() const;

 private:
  EventObject *start_ = nullptr, *stop_ = nullptr;
};

}  // namespace flagscale::cuda
